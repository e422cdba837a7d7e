r"""Conformance: cases with the expected network inputs and end states, and a runner for any program.

A case is a plan file, the plan's coefficients as a table, Gaussian data with independent values of variance P, start noise, and
the noise of each call:

.. math:: D(x; \sigma) = \frac{P}{P + \sigma^2} \, x, \qquad x = x_0 + \sigma \epsilon,

so running the plan needs no network. A case expects the pairs (t, sigma) of the network calls in order, and the end
state, which the state machine computes in float64. A program passes if its pairs match the plan's within the tolerance
of :meth:`~sigmatune.noise.path.NoisePath.agrees`, and its end agrees to 1e-4 of the largest value.

A program is a Python function ``module:function`` from a case to an answer, or a command that reads cases as JSON lines
and writes one line for each: ``{"calls": [[t, sigma], ...], "end": [...]}``, or ``{"refused": "the reason"}``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from sigmatune import noise, schedules
from sigmatune.core import rng
from sigmatune.core.loop import run
from sigmatune.core.schedule import Schedule
from sigmatune.models.analytic import Analytic
from sigmatune.noise import NoisePath
from sigmatune.plan import Plan, compile_plan
from sigmatune.plan import file as plan_file
from sigmatune.plan.document import TableFields, table_of
from sigmatune.plan.file import loads as read_plan
from sigmatune.solvers import POSITION
from sigmatune.support.elementwise import unit_hypot
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_text
from sigmatune.support.json_file import Strict, validated
from sigmatune.support.reading import parsed, text_of

Case = Mapping[str, Any]
Answer = Mapping[str, Any]
Runner = Callable[[Case], Answer]

FILE = "vectors.jsonl"
FORMAT, VERSION = "sigmatune/conformance", 2
STEPS = (1, 2, 3, 5, 8, 20)
VARIANCE = (4.0, 1.0, 0.25, 0.04)
END = 1e-4


class Values(Analytic):
    """The exact denoiser of independent Gaussian values, of shape (1, 1, n)."""

    def __init__(self, variance: Iterable[float], path: NoisePath) -> None:
        self.variance = torch.tensor(list(variance), dtype=torch.float64)
        self.shape, self.path, self.arrays = (1, 1, len(self.variance)), path, (self.variance,)

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        column = sigma.view(-1, 1, 1, 1)
        alpha, s = 1 / unit_hypot(column), 1 / unit_hypot(1 / column)
        return alpha * self.variance / (alpha**2 * self.variance + s**2) * z


def cases() -> list[dict[str, Any]]:
    """The suite: every solver and learned coefficients, at every number of steps and on every one of four noise paths."""
    paths = {
        "vp": noise.vp("scaled_linear", beta_start=0.00085, beta_end=0.012),
        "flow": noise.Flow(3.0),
        "vp-zero-snr": noise.vp(zero_terminal_snr=True),
        "edm": noise.VE(0.002, 80.0, clock="quarter_log"),
    }
    suite = []
    for i, solver in enumerate(POSITION):
        for j, steps in enumerate(STEPS):
            name = list(paths)[(i + j) % len(paths)]
            schedule = schedules.build("uniform-trailing", steps, paths[name])
            plan = compile_plan(schedule, solver).with_notes(path=paths[name].spec())
            suite.append(_case(f"{solver}-{steps}-{name}", plan))
    for j, steps in enumerate(STEPS):
        name = list(paths)[j % len(paths)]
        family = (
            "karras" if math.isfinite(paths[name].sigma_max) else "uniform-trailing"
        )  # Karras: between whole timesteps
        plan = _learned(schedules.build(family, steps, paths[name])).with_notes(path=paths[name].spec())
        suite.append(_case(f"coefficients-{steps}-{name}", plan))
    return suite


def _learned(schedule: Schedule) -> Plan:
    """A plan with learned coefficients: those of DPM-Solver++(2M), each slightly perturbed."""
    plain = compile_plan(schedule, "dpmpp2m")
    table = plain.coefficients
    wobble = torch.cos(torch.arange(table.b.numel(), dtype=torch.float64)).reshape(table.b.shape)
    perturbed = type(table)(
        table.q, table.A, table.b * (1 + 0.05 * wobble * (table.b != 1)), table.c, table.start, table.origin, table.G
    )
    return Plan(schedule, "custom", perturbed)


def _case(name: str, plan: Plan) -> dict[str, Any]:
    n = len(VARIANCE)

    def drawn(call: int) -> list[float]:
        return [float(x) for x in rng.noise(0, [0], call, (1, 1, n), dtype=torch.float64).reshape(-1)]

    case = {
        "name": name,
        "plan": json.loads(plan_file.dumps(plan)),
        "table": table_of(plan.coefficients).model_dump(mode="json", exclude_none=True),
        "variance": list(VARIANCE),
        "start": drawn(rng.START),
        "noise": [] if plan.coefficients.deterministic else [drawn(k + 1) for k in range(plan.calls)],
    }
    return {**case, "expected": core(case)}


def core(case: Case) -> Answer:
    """Our own loop, in float64: the expected values."""
    plan = plan_of(case)
    path = plan.noise_path() or noise.VE()
    model, seen = Values(case["variance"], path), list[float]()
    end = run(plan.coefficients, model, seed=0, indices=[0], on_step=lambda step: seen.append(float(step.sigma[0])))
    return answer(zip(path.time(np.array(seen)).tolist(), seen, strict=True), end)


def plan_of(case: Case) -> Plan:
    """The plan of a case."""
    return read_plan(json.dumps(case["plan"]))


def answer(pairs: Iterable[tuple[float, float]], end: torch.Tensor) -> Answer:
    """An answer for JSON: an infinite sigma becomes "inf"."""
    calls = [[float(t), "inf" if math.isinf(sigma) else float(sigma)] for t, sigma in pairs]
    return {"calls": calls, "end": [float(x) for x in end.detach().double().reshape(-1)]}


# ------------------------------------------------------------------------------------------------------------- the files


def dumps(cases: list[dict[str, Any]]) -> str:
    """The text of a file of cases: one case per line."""
    head = json.dumps({"format": FORMAT, "version": VERSION, "cases": len(cases)})
    return "\n".join([head, *(json.dumps(case) for case in cases)]) + "\n"


def write(folder: Path) -> Path:
    """Writes the suite into a folder; returns the file."""
    file = folder / FILE
    write_text(file, dumps(cases()))
    return file


def read(file: Path) -> list[dict[str, Any]]:
    """Reads a file of cases.

    Raises:
        SigmaTuneError: if it is not a file of this version.
    """
    head, *lines = text_of(file, kind="conformance").splitlines() or [""]
    try:
        validated(parsed(head), HeadFields, "its first line")
        cases = [_case_of(line, i) for i, line in enumerate(lines, start=2)]
        stated = parsed(head)["cases"]
    except SigmaTuneError as error:
        raise SigmaTuneError(f"{file} is not a file of conformance cases of version 1 or {VERSION}: {error}") from None
    if stated != len(cases):
        raise SigmaTuneError(f"{file} states {stated} cases but holds {len(cases)}; use the complete file.")
    return cases


class HeadFields(Strict):
    """The first line of a file of cases."""

    format: Literal["sigmatune/conformance"]
    version: Literal[1, 2]
    cases: int


class ExpectedFields(Strict):
    """The expectations of a case."""

    calls: list[Annotated[list[float | Literal["inf"]], Field(min_length=2, max_length=2)]]
    end: list[float]


class CaseFields(Strict):
    """The other lines."""

    name: str
    plan: dict[str, Any]
    table: TableFields | None = None
    variance: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    start: list[float]
    noise: list[list[float]]
    expected: ExpectedFields


def _case_of(line: str, number: int) -> dict[str, Any]:
    raw = parsed(line)
    fields = validated(raw, CaseFields, f"line {number}")
    n, plan = len(fields.variance), read_plan(json.dumps(fields.plan))
    if len(fields.start) != n or any(len(row) != n for row in fields.noise) or plan.path is None:
        raise SigmaTuneError(
            f"line {number}: a case needs a noise path, and {n} numbers for the start noise and for each later noise."
        )
    return raw  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------------------ the verdict


@dataclass(frozen=True)
class CaseVerdict:
    """The result of a program on one case.

    Attributes:
        name: The case.
        passed: It passed.
        reason: The failure, or the program's reason to refuse.
        refused: The program refused the plan.
    """

    name: str
    passed: bool
    reason: str = ""
    refused: bool = False


def judge(case: Case, given: Answer) -> CaseVerdict:
    """Compares an answer with a case's expectations."""
    name, expected = case["name"], case["expected"]
    if "refused" in given:
        return CaseVerdict(name, passed=False, reason=str(given["refused"]), refused=True)
    try:
        calls = [(float(t), float(sigma)) for t, sigma in given["calls"]]
        end = np.array([float(x) for x in given["end"]])
    except (KeyError, TypeError, ValueError) as error:
        return CaseVerdict(name, passed=False, reason=f"the answer cannot be read: {error}")
    wanted = [(float(t), float(sigma)) for t, sigma in expected["calls"]]
    if len(calls) != len(wanted):
        return CaseVerdict(name, passed=False, reason=f"{len(calls)} network calls instead of {len(wanted)}")
    path = noise.from_spec(case["plan"]["noise_path"])
    for k, (pair, pair_0) in enumerate(zip(calls, wanted, strict=True)):
        if not _same_pair(path, pair, pair_0):
            (t, sigma), (t_0, sigma_0) = pair, pair_0
            said = f"(t, sigma) = ({t:.9g}, {sigma:.9g}) instead of ({t_0:.9g}, {sigma_0:.9g})"
            return CaseVerdict(name, passed=False, reason=f"call {k} receives {said}")
    target = np.array(expected["end"])
    off = float(np.abs(end - target).max()) if end.shape == target.shape else math.inf
    if not off <= END * max(1.0, float(np.abs(target).max())):
        return CaseVerdict(name, passed=False, reason=f"the end is off by {off:.3g}")
    return CaseVerdict(name, passed=True)


def _same_pair(path: NoisePath, given: tuple[float, float], expected: tuple[float, float]) -> bool:
    """Whether a pair (t, sigma) is the expected one: both numbers, within the tolerance between processors."""
    (t, sigma), (t_0, sigma_0) = given, expected
    try:
        same_level = bool(noise.close(sigma, sigma_0) or path.agrees(sigma, t_0))
    except SigmaTuneError:  # outside the path's range
        return False
    return same_level and abs(t - t_0) <= float(path.time_tolerance(t_0))


def check(runner: Runner, cases: Iterable[Case]) -> list[CaseVerdict]:
    """Runs a program over cases; an error that it raises is a failure of the case."""
    verdicts = []
    for case in cases:
        asked = {key: value for key, value in case.items() if key != "expected"}
        try:
            given = runner(asked)
        except SigmaTuneError as error:
            given = {"refused": str(error)}
        except Exception as error:  # noqa: BLE001 - somebody else's program
            verdicts.append(CaseVerdict(case["name"], passed=False, reason=f"{type(error).__name__}: {error}"))
            continue
        verdicts.append(judge(case, given))
    return verdicts
