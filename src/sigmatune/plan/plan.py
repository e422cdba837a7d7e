"""A plan: a schedule and a solver compiled to a linear state machine, and sampling with it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from sigmatune import noise
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import Schedule, drawing_of, family_of, levels_of, rows_of
from sigmatune.core.table import Coefficients
from sigmatune.plan import model_card, purpose
from sigmatune.plan import repository as repositories
from sigmatune.plan.document import FORMAT, VERSION, PlanFile, lists, plain, table_of
from sigmatune.support import card, outputs
from sigmatune.support.errors import PlanMismatch, SigmaTuneError

REPR_WIDTH = 160
"""Most characters of a line of ``repr``."""

MODEL_WIDTH = 90
"""Most characters of a model's fingerprint in :meth:`Plan.describe`; that of a function holds its outputs on a probe."""

NoiseKind = Literal["call", "level"]


def check_noise(kind: str) -> None:
    """Refuses a kind of noise that :meth:`Plan.with_noise` does not know.

    Raises:
        SigmaTuneError: saying which there are.
    """
    if kind not in get_args(NoiseKind):
        raise SigmaTuneError(f'noise is drawn by "call" or by "level", not {kind!r}.')


MICRO_BATCH = 16
"""Default rows per network call; recorded in plans, because images are bit-equal only at equal sizes."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A compiled schedule and solver, which is tuned, saved, exported and run.

    Args:
        schedule: The noise levels.
        solver: Name of the solver that made the coefficients, or ``"custom"``.
        coefficients: The linear state machine.
        path: The noise path of its model (:meth:`NoisePath.spec`), if any.
        fingerprint: Fingerprint of that model, if any.
        tuned_for: What it is for: what its model predicts; and if it was tuned, the settings of the tuning: calls, steps,
            solver, shape, guidance, measure, and the options of :func:`sigmatune.load` (:attr:`load_options`).
        evidence: The guard's report.
        cost: The cost of finding the plan.
        micro_batch: Rows per network call.
        solver_options: The solver's options.
        pairs: Levels and the network's t at them as the plan's file states them, (P, 2): the network receives these if
            its own path agrees, whatever machine wrote the file.
    """

    schedule: Schedule
    solver: str
    coefficients: Coefficients
    path: Mapping[str, Any] | None = None
    fingerprint: str | None = None
    tuned_for: Mapping[str, Any] | None = None
    evidence: Mapping[str, Any] | None = None
    cost: Mapping[str, Any] | None = None
    micro_batch: int = MICRO_BATCH
    solver_options: Mapping[str, Any] = field(default_factory=dict)
    pairs: noise.Array | None = None

    def __repr__(self) -> str:
        evidence = card.line(self._verdict() or "none, this plan was not tuned", REPR_WIDTH)
        return f"Plan: {self._heading()}\n  sigmas: {levels_of(self.schedule)}\n  evidence: {evidence}"

    def _repr_html_(self) -> str:
        """The card that a notebook shows."""
        return card.card(f"Plan: {self._heading()}", drawing_of(self.schedule), self.facts())

    def describe(self) -> str:
        """Everything that a person asks of a plan, a line each: what to set, what it costs, what it is for, its evidence."""
        lines = [f"  {name}: {card.line(value)}" for name, value in self.facts().items() if value not in (None, "", {})]
        return "\n".join([f"Plan: {self._heading()}", *lines])

    def facts(self) -> dict[str, Any]:
        """The lines of :meth:`describe` by name; those without a value do not apply."""
        of = self.cost.get("network_evaluations") if isinstance(self.cost, Mapping) else None
        spent = of.get("total") if isinstance(of, Mapping) else None
        kind = self.path.get("kind") if isinstance(self.path, Mapping) else None
        predicts = purpose.prediction_words(self.tuned_for)
        return {
            "family": family_of(self.schedule),
            "rows": rows_of(self.schedule),
            "sigmas": levels_of(self.schedule),
            "in a pipeline": purpose.cost_words(self.coefficients.q.numpy(), self.tuned_for),
            "tuned for": purpose.words(self.tuned_for),
            "conditions": purpose.condition_words(self.tuned_for),
            "evidence": self._verdict() or "none, this plan was not tuned",
            "cost of tuning": f"{spent:,} network evaluations" if isinstance(spent, int) else None,
            "noise path": f"{kind}{f', predicts {predicts}' if predicts else ''}" if kind else None,
            "model": card.line(self.fingerprint, MODEL_WIDTH) if self.fingerprint else None,
        }

    @property
    def load_options(self) -> dict[str, Any]:
        """Options of :func:`sigmatune.load` that make the model as it was tuned: prompts or labels, guidance, size.

        ``st.load(folder, **plan.load_options)``; empty for a model without conditions, and for plans that do not record them.
        """
        return purpose.load_options(self.tuned_for)

    def _heading(self) -> str:
        known = card.options(self.solver_options)
        counts = f"{card.count(self.steps, 'step')}, {card.count(self.calls, 'call')}"
        return card.line(f"{self.solver}, {counts}{f', {known}' if known else ''}", REPR_WIDTH)

    def _verdict(self) -> str | None:
        """The guard's verdict, if the plan was tuned; a file may hold anything in its place."""
        said = self.evidence.get("verdict") if isinstance(self.evidence, Mapping) else None
        return said if isinstance(said, str) else None

    @property
    def steps(self) -> int:
        """N, the number of steps."""
        return self.schedule.steps

    @property
    def calls(self) -> int:
        """K, the number of network calls (guidance may double some: :meth:`network_calls`)."""
        return self.coefficients.calls

    def network_calls(self, denoiser: Denoiser) -> int:
        """Network evaluations per image with this denoiser, guidance counted."""
        q = self.coefficients.q
        return max(sum(denoiser.calls_at(level) for level in row) for row in q.reshape(-1, q.shape[-1]).tolist())

    def evaluations(self, denoiser: Denoiser, rows: int, micro_batch: int | None = None) -> int:
        """Network evaluations of single images that some rows take: guidance counted, and the padding of micro-batches."""
        size = micro_batch or self.micro_batch
        return -(-rows // size) * size * self.network_calls(denoiser)

    def with_notes(self, **notes: Any) -> Plan:
        """Returns a copy with other ``path``, ``fingerprint``, ``tuned_for``, ``evidence`` or ``cost``."""
        if notes.get("path", self.path) != self.path:
            notes["pairs"] = None  # they belong to the old path
        return replace(self, **notes)

    def noise_path(self) -> noise.NoisePath | None:
        """The plan's noise path, if any; at the plan's own levels its t are those of the plan's file."""
        return None if self.path is None else noise.paired(noise.from_spec(self.path), self.pairs)

    @property
    def noise(self) -> NoiseKind:
        """What a step's noise depends on: its call ("call") or its levels ("level"), besides the seed and the row's index."""
        return "level" if self.coefficients.by_level else "call"

    def with_noise(self, kind: NoiseKind) -> Plan:
        """Returns a copy whose noise is drawn by call or by level; of a deterministic plan the results stay the same.

        Args:
            kind: "call" draws a step's noise by the number of its call. "level" takes it from a Brownian path over the levels
                (:mod:`sigmatune.core.brownian`), so that plans of 20 and of 40 steps end at nearly the same image.

        Raises:
            SigmaTuneError: for another kind.
        """
        check_noise(kind)
        return replace(self, coefficients=replace(self.coefficients, by_level=kind == "level"))

    def document(self) -> PlanFile:
        """The fields of the plan's file."""
        q, path = self.coefficients.q.numpy(), self.noise_path()
        return PlanFile(
            format=FORMAT,
            version=VERSION,
            sigma_kind="ve",
            sigmas=self.schedule.sigmas.tolist(),
            steps=self.steps,
            calls=self.calls,
            network_sigmas=q.tolist(),
            network_times=None if path is None else path.time(q).tolist(),
            solver=self.solver,
            solver_options=lists(self.solver_options),
            family=self.schedule.family,
            family_options=dict(self.schedule.options),
            noise_path=plain(self.path),
            model=self.fingerprint,
            micro_batch=self.micro_batch,
            noise="level" if self.noise == "level" else None,
            table=table_of(self.coefficients) if self.solver == "custom" else None,
            tuned_for=plain(self.tuned_for),
            evidence=plain(self.evidence),
            cost=plain(self.cost),
        )

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Writes the plan file, atomically; see :mod:`sigmatune.plan.file`.

        Args:
            path: The file. A plan file that is there is replaced.
            force: Replace any other file, too.

        Raises:
            SigmaTuneError: if the folder does not exist or cannot be written to, or another file is there.
        """
        outputs.save(path, self.document().text(), "plan", force=force)

    def push_to_hub(self, repository: str, *, private: bool = False, message: str = "", model: str = "") -> str:
        """Writes the plan into a repository of the Hugging Face hub, with a card that shows its evidence and its levels.

        Args:
            repository: ``owner/name``; created if it is not there.
            private: Make a new repository private.
            message: The commit's message.
            model: The hub id of the model that the plan is for, for the card.

        Returns:
            The commit's address.

        Raises:
            SigmaTuneError: if that is no repository, or the hub refuses it.
        """
        message = message or f"Plan of {self.calls} calls, {self.solver}"
        return repositories.push(self.repository_files(repository, model), repository, message, private=private)

    def repository_files(self, repository: str, model: str = "") -> dict[str, str]:
        """The files that :meth:`push_to_hub` sends, text by name."""
        document = self.document()
        return {
            repositories.PLAN: document.text(),
            "README.md": model_card.card_of(document, self.schedule, repository, model),
            "levels.svg": model_card.drawing(self.schedule),
        }


@runtime_checkable
class Rule(Protocol):
    """Builds one schedule per sample from (seed, index); see :mod:`sigmatune.rules`."""

    def plan(self, seed: int, indices: Sequence[int], denoiser: Denoiser | None = None) -> Plan:
        """The plan with one row per index; a row depends on the seed and its own index alone."""
        ...

    def together(self, seed: int, indices: Sequence[int], denoiser: Denoiser) -> tuple[Denoiser, Plan]:
        """The plan, and the denoiser with the rule's conditions for every row."""
        ...


def check_fit(plan: Plan, denoiser: Denoiser) -> None:
    """Refuses a plan that a model cannot run and warns about one that was made for another model.

    Raises:
        SigmaTuneError: if a level is outside the model's range, or between the timesteps of a network of whole timesteps, or
            one of the two is of phase space and the other is not.
    """
    if plan.coefficients.ports != denoiser.ports:
        of = {1: "position only", 2: "position and momentum"}
        raise SigmaTuneError(
            f"the plan is for a network of {of.get(plan.coefficients.ports)} and this network is of "
            f"{of.get(denoiser.ports)}; make the plan for this model."
        )
    q = plan.coefficients.q.numpy()
    denoiser.path.check(q)
    if denoiser.integer_time and not denoiser.path.agrees(q, np.rint(denoiser.path.time(q))).all():
        raise SigmaTuneError(
            "this network accepts whole timesteps only and the plan's levels lie between them; make the plan for this "
            "model."
        )
    if words := mismatch(plan, denoiser):
        warnings.warn(words, PlanMismatch, stacklevel=3)


def mismatch(plan: Plan, denoiser: Denoiser) -> str:
    """Whether a plan was made for another model or other conditions, in a sentence; "" if for these."""
    if differs := purpose.differences(plan.tuned_for, denoiser):
        return f"this plan was tuned {' and '.join(differs)}; its evidence does not carry over."
    if plan.fingerprint is not None and not denoiser.is_model_of(plan.fingerprint):
        return "this plan was made for another model; its evidence does not carry over."
    return ""
