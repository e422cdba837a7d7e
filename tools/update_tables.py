"""Writes the tables of README.md and docs/*.md from the benchmarks' JSON and the registries: ``python tools/update_tables.py``.

Everything between ``<!-- table: NAME -->`` and ``<!-- end -->`` is replaced. A test fails when the two differ.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from doc_tables import (
    cells,
    clients,
    diffusers_client,
    engines,
    exact_models,
    exact_plans,
    headline,
    images,
    minutes,
    papers,
    phase_space,
    registered,
    schedules,
    tuned,
)

ROOT = Path(__file__).resolve().parent.parent
MAKERS = {
    "phase_errors": (phase_space.phase_errors_table, "phase_space"),
    "phase_premise": (phase_space.phase_premise_table, "phase_space"),
    "phase_stability": (phase_space.phase_stability_table, "phase_space"),
    "phase_terms": (phase_space.phase_terms_table, "phase_space"),
    "phase_bias": (phase_space.phase_bias_table, "phase_space"),
    "phase_lambda": (phase_space.phase_lambda_table, "phase_space"),
    "overhead": (schedules.overhead_table, "overhead"),
    "engine_overhead": (engines.engine_overhead_table, "engine_overhead"),
    "engine_bytes": (engines.engine_bytes_table, "engine_overhead"),
    "engine_memory": (engines.engine_memory_table, "scale_costs"),
    "scale_costs": (engines.scale_costs_table, "scale_costs"),
    "diffusers_schedulers": (schedules.diffusers_schedulers_table, "diffusers_schedulers"),
    "clients_comfyui": (clients.clients_table, "clients_comfyui"),
    "clients_comfyui_refusals": (clients.refusals_table, "clients_comfyui"),
    "clients_k_diffusion": (clients.clients_table, "clients_k_diffusion"),
    "clients_a1111": (clients.clients_table, "clients_a1111"),
    "clients_forge": (clients.clients_table, "clients_forge"),
    "clients_stable_diffusion_cpp": (clients.clients_table, "clients_stable_diffusion_cpp"),
    "clients_diffusers": (diffusers_client.clients_diffusers_table, "clients_diffusers"),
    "doctor": (images.doctor_table, "doctor"),
    "headline": (headline.headline_table, "headline"),
    "tuners": (tuned.tuners_table, "tuners"),
    "queries": (tuned.queries_table, "queries"),
    "cells": (cells.cells_table, "cells"),
    "methods": (tuned.methods_table, "tuners"),
    "ends": (schedules.ends_table, "ends"),
    "spectrum": (schedules.spectrum_table, "spectrum"),
    "beta": (schedules.beta_table, "beta"),
    "beta_spectra": (schedules.beta_spectra_table, "beta_spectra"),
    "beta_errors": (schedules.beta_errors_table, "beta_spectra"),
    "analyses": (schedules.analyses_table, "beta"),
    "sensitivity": (schedules.sensitivity_table, "sensitivity"),
    "training_overhead": (images.training_overhead_table, "training_overhead"),
    "training": (images.training_table, "training"),
    "finetune": (images.finetune_table, "finetune"),
    "finetune_psld": (images.finetune_psld_table, "finetune_psld"),
    "exact_speed": (exact_models.exact_speed_table, "exact"),
    "exact_held_out": (exact_models.exact_held_out_table, "exact"),
    "calls": (exact_models.calls_table, "calls"),
    "distances": (exact_plans.distances_table, "distances"),
    "noise_choice": (exact_plans.noise_choice_table, "noise_choice"),
    "peer_plans": (exact_plans.peer_plans_table, "peer_plans"),
    "discretisation_loss": (papers.discretisation_loss_table, "beta_sampling"),
    "beta_training": (papers.training_table, "beta_sampling"),
    "told_stepped": (papers.told_stepped_table, "told_stepped"),
    "splitting": (papers.splitting_table, "splitting"),
    "estimates": (exact_plans.estimates_table, "estimates"),
    "effort": (exact_plans.effort_table, "effort"),
    "minutes": (minutes.minutes_sentence, "minutes"),
    "network_distances": (exact_plans.network_distances_table, "network_distances"),
    "measures": (exact_models.measures_table, "measures"),
    "measures_models": (exact_models.measures_models_table, "measures"),
}
"""Table by name: its maker and the file of results."""

LONG = ("training", "finetune", "finetune_psld")
"""Runs that take hours on a CPU, whose results may be missing."""


def documents() -> list[Path]:
    """The files that hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def tables() -> dict[str, str]:
    """All generated tables by name."""
    results = ROOT / "benchmarks" / "results"
    texts = {}
    for file in sorted(results.glob("guard_*.json")):
        texts[file.stem] = tuned.guard_table(json.loads(file.read_text()))
    texts |= registered.registered_tables()
    texts |= papers.beta_sampling_tables(json.loads((results / "beta_sampling.json").read_text()))
    for name, (make, stem) in MAKERS.items():
        file = results / f"{stem}.json"
        measured = name not in LONG or file.is_file()
        texts[name] = make(json.loads(file.read_text()) if measured else None)
    return texts


def updated(text: str) -> str:
    """A document's text with every table replaced by the current one."""
    texts = tables()
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{texts[match[2]]}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    for document in documents():
        document.write_text(updated(document.read_text()))
