"""Samplers of phase space on exact Gaussian data, in closed form: ``python benchmarks/phase_space.py``.

The data are Gaussian with the spectrum of CIFAR-10's images. Measured are, for every sampler of the registry, the squared
Wasserstein error at 20 to 200 calls on both grids of the papers and the weak order; for the reduced splittings how sensitive
they are to lambda_s, and the bias of two other forms of it; and the papers' open checks: how much a score
changes between the two updates that share it, how far a perturbation is amplified by a step, and which terms of the local error
are smaller in the reduced step.

Writes ``benchmarks/results/phase_space.json`` and ``docs/phase_space.png``; about a minute.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import io
import json
from typing import Any

import numpy as np
import torch
from guard import HERE, machine

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.solver import Solver
from sigmatune.core.table import Coefficients
from sigmatune.models.analytic import GaussianMixture
from sigmatune.noise import VE, Narrowed
from sigmatune.phase_space import sampler
from sigmatune.phase_space.compose import Ask, Grid, Op, chained
from sigmatune.phase_space.splitting import _asks
from sigmatune.phase_space.updates import update_a, update_b, update_o
from sigmatune.processes import PSLD
from sigmatune.solvers import PHASE_SPACE, SOLVERS
from sigmatune.support.files import write_bytes, write_text
from sigmatune.tuning.closed_form import errors, transfer, variance
from sigmatune.tuning.own_spectrum import own_modes

CALLS = (20, 50, 100, 200)
GRIDS = {"uniform": 1.0, "quadratic": 2.0}
FIRST, EPS = 0.9, 1e-3
"""Times of the first and the last level: sigma 140 and 0.009."""

WORDS = ("oba", "bao", "obab")
LAMBDAS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
TIMES = (0.003, 0.01, 0.03, 0.1, 0.3, 0.6)
PROCESS = PSLD()
MODES = own_modes("cifar10")
P, COUNT = torch.from_numpy(MODES.power), MODES.count


def sigmas(steps: int, power: float) -> torch.Tensor:
    """N levels that are even in a power of time, and the final 0."""
    t = EPS + (FIRST - EPS) * torch.linspace(1, 0, steps, dtype=torch.float64) ** power
    return torch.cat([PROCESS.sigma(t), torch.zeros(1, dtype=torch.float64)])


def error(of: str | Solver, calls: int, power: float, **options: Any) -> dict[str, float]:
    """Squared Wasserstein error over the data's variance, and the mean squared relative error of the standard deviations."""
    solver = SOLVERS[of] if isinstance(of, str) else of
    table = solver.build(sigmas(solver.steps_for(calls), power), **options)
    away = errors(table, P).numpy()
    return {
        "calls": table.calls,
        "wasserstein": float((away @ COUNT) / (MODES.power @ COUNT)),
        "relative": float((away / MODES.power @ COUNT) / COUNT.sum()),
    }


def order(name: str) -> float:
    """The weak order on levels that end above 0, from the exact law of the noisy data."""
    counts, found = np.array([48, 64, 96, 128, 192]), []
    t0, t1 = 0.5, 0.05
    low = PROCESS.sigma(torch.tensor(t1, dtype=torch.float64))
    true = (low**2 + P) / (1 + low**2)
    for n in counts:
        table = SOLVERS[name].build(
            PROCESS.sigma(t1 + (t0 - t1) * torch.linspace(1, 0, int(n) + 1, dtype=torch.float64))
        )
        state = table.origin.expand(len(P), -1)
        for M in transfer(table, P):
            state = (M @ state[..., None])[..., 0]
        own = variance(table, P) + (state @ table.c[-1]).square() * P
        found.append(float((own - true).abs().mean()))
    return -float(np.polyfit(np.log(counts), np.log(found), 1)[0])


def truth(t: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """The covariance of (x, m) of noisy data at a time, per mode, (modes, 2, 2)."""
    law = PROCESS.law(t)
    return law.covariance + power[:, None, None] * torch.outer(law.a, law.a)


def one_step(
    word: str, rule: str, t: float, h: float, power: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A step of length h in the clock, with exact scores of the time in front of it: matrix, noise, and the time at its end."""
    tau = PROCESS.tau(torch.tensor(t, dtype=torch.float64)) - h
    end = PROCESS.time_of_tau(tau)
    grid = Grid(PROCESS, PROCESS.sigma(torch.stack([torch.tensor(t, dtype=torch.float64), end])))
    make = {"O": lambda s: update_o(grid, s, 1.0), "A": lambda s: update_a(grid, s, 2.0),
            "B": lambda s: update_b(grid, s, 2.0)}  # fmt: skip
    upper = word.upper()
    precision = torch.linalg.inv(truth(torch.tensor(t, dtype=torch.float64), power))
    one = torch.eye(2, dtype=torch.float64).expand(len(power), -1, -1)
    total, noise, score = one, torch.zeros_like(one), -precision
    for letter, ask in zip(upper, _asks(upper, rule), strict=True):
        op = chained([make[letter](1 / upper.count(letter))], grid.h)
        if ask:
            score = -precision @ total  # s as a function of the step's first state; noise of O enters the state as well
        F, B, Q = (getattr(op, name)[0] for name in "FBQ")
        # Noise inside the step passes through scores that are asked for later.
        push = F - (B @ precision if ask else torch.zeros_like(B))
        total, noise = F @ total + B @ score, push @ noise @ push.mT + Q
    return total, noise, end


def amplification(word: str, rule: str, t: float, h: float) -> float:
    """How much a step enlarges a perturbation, relative to the true spread before and after it: the worst mode."""
    M, _, end = one_step(word, rule, t, h, P)
    before = torch.linalg.cholesky(truth(torch.tensor(t, dtype=torch.float64), P))
    after = torch.linalg.cholesky(truth(end, P))
    return float(torch.linalg.matrix_norm(torch.linalg.solve(after, M @ before), 2).max())


def largest_step(word: str, rule: str, t: float) -> float:
    """The longest step, as a share of the time, that amplifies no perturbation more than twice."""
    shares = np.geomspace(0.01, 0.999, 120)
    tau = float(PROCESS.tau(torch.tensor(t, dtype=torch.float64)))
    good = [share for share in shares if amplification(word, rule, t, share * tau) <= 2]
    return float(max(good, default=0.0))


def premise(t: float, h: float) -> list[float]:
    """Relative change of the position's score by the update B of length h, for three modes: strong, middle, weak."""
    power = torch.tensor([MODES.power[0], float(np.average(MODES.power, weights=COUNT)), MODES.power[-1]])
    C = truth(torch.tensor(t, dtype=torch.float64), power)
    precision = torch.linalg.inv(C)
    grid = Grid(PROCESS, PROCESS.sigma(torch.tensor([t, t / 2], dtype=torch.float64)))
    op = update_b(grid, h / float(grid.h), 2.0)
    moved = op.F[0] - op.B[0] @ precision
    change = -precision @ (moved - torch.eye(2, dtype=torch.float64))
    size = (change @ C @ change.mT)[:, 0, 0] / precision[:, 0, 0]
    return size.sqrt().tolist()


def local_terms(rule: str, t: float) -> dict[str, float]:
    """Leading coefficients of the local error of the covariance of BAO, (step - truth) / h^2, typical mode, m over sqrt(M)."""
    power = torch.tensor([float(np.average(MODES.power, weights=COUNT))], dtype=torch.float64)
    h = 1e-4 * float(PROCESS.tau(torch.tensor(t, dtype=torch.float64)))
    start = truth(torch.tensor(t, dtype=torch.float64), power)
    M, noise, end = one_step("bao", rule, t, h, power)
    away = ((M @ start @ M.mT + noise - truth(end, power)) / h**2)[0]
    scale = PROCESS.mass**0.5
    return {"xx": float(away[0, 0]), "xm": float(away[0, 1]) / scale, "mm": float(away[1, 1]) / scale**2}


def scaled(form: str) -> Solver:
    """Reduced OBA with lambda_s in O's rate alone ("exponents"), or in its noise alone ("noise"); A's pull stays 2 Gamma."""

    def step(grid: Grid, *, lambda_s: float = 1.0) -> list[Op | Ask]:
        o = update_o(grid, 1.0, lambda_s if form == "exponents" else 1.0)
        if form == "noise":
            o = Op(o.F, o.B, o.Q * torch.tensor([[lambda_s**2, 1.0], [1.0, 1.0]], dtype=torch.float64))
        return [o, grid.now, update_b(grid, 1.0, 2.0), update_a(grid, 1.0, 2.0)]

    return sampler.solver(form, step, asks=1, order=1, summary="reduced OBA")


def biases() -> list[dict[str, Any]]:
    """The error that remains at very many calls, by form and lambda_s; the package keeps the consistent form."""
    forms = {"consistent": "reduced-oba", "exponents": scaled("exponents"), "noise": scaled("noise")}
    return [
        {"form": form, "lambda_s": value, **error(of, 3200, 2.0, lambda_s=value)}
        for form, of in forms.items()
        for value in (0.5, 1.0, 2.0, 5.0)
    ]


def walked(table: Coefficients, model: Denoiser) -> np.ndarray:
    """The states (x, m) of one sample after every call but the last, (K, 2)."""
    generator = torch.Generator().manual_seed(4)
    S = table.start @ torch.randn(2, generator=generator, dtype=torch.float64)
    path = [S]
    for k in range(table.calls - 1):
        D = model((table.c[k] @ S).view(1, 1, 1, 1), float(table.q[k])).item()
        fresh = torch.randn(table.G.shape[-1], generator=generator, dtype=torch.float64)
        S = table.A[k] @ S + table.b[k] * D + table.G[k] @ fresh
        path.append(S)
    return torch.stack(path).numpy()


def picture(cells: list[dict[str, Any]]) -> bytes:
    """Left: one sample of a mixture on its way through (x, m), naive and reduced; right: error against calls."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), constrained_layout=True)
    model = GaussianMixture(np.full(2, 0.5), np.array([-1.0, 1.0]).reshape(2, 1, 1, 1), np.full((2, 1, 1), 0.01),
                            Narrowed(VE(), 0.005, 80.0))  # fmt: skip
    for name, steps, colour, width in (
        ("reduced-oba", 800, "0.6", 0.8),
        ("reduced-oba", 41, "C0", 1.4),
        ("naive-oba", 21, "C3", 1.4),
    ):
        table = SOLVERS[name].build(sigmas(steps, 2.0))
        x, m = walked(table, model).T
        left.plot(x, m, color=colour, lw=width, marker="o" if steps < 100 else None, ms=4,
                  label=f"{name}, {table.calls} calls", zorder=3 if steps < 100 else 1)  # fmt: skip
    for at in (-1, 1):
        left.axvline(at, color="0.85", lw=6, zorder=0)
    left.set(xlabel="position x", ylabel="momentum m", title="One sample of two narrow bumps at -1 and 1")
    left.legend(frameon=False, fontsize=8)
    shown = {
        "naive-oba": "C3",
        "reduced-oba": "C0",
        "reduced-bao": "C2",
        "reduced-obab": "C4",
        "sscs": "C1",
        "phase-em": "0.5",
    }
    for name, colour in shown.items():
        own = [cell for cell in cells if cell["sampler"] == name and cell["grid"] == "quadratic"]
        right.loglog([c["calls"] for c in own], [c["wasserstein"] for c in own], "o-", ms=4, color=colour, label=name)
    right.set(
        xlabel="network calls",
        ylabel="squared Wasserstein error / variance",
        title="Gaussian data with CIFAR-10's spectrum",
    )
    right.set_xticks(CALLS, [str(n) for n in CALLS])
    right.minorticks_off()
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    plt.close(fig)
    return buffer.getvalue()


def main() -> None:
    """Measures, or draws again what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", action="store_true", help="only draw the figure from the results that are there")
    file, drawing = HERE / "results" / "phase_space.json", HERE.parent / "docs" / "phase_space.png"
    if parser.parse_args().picture:
        write_bytes(drawing, picture(json.loads(file.read_text())["cells"]))
        return
    cells = [
        {"sampler": name, "grid": grid, "budget": calls, **error(name, calls, power)}
        for name in PHASE_SPACE for grid, power in GRIDS.items() for calls in CALLS
    ]  # fmt: skip
    result = {
        "benchmark": "benchmarks/phase_space.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "process": PROCESS.spec(),
        "times": [FIRST, EPS],
        "cells": cells,
        "orders": {name: order(name) for name in PHASE_SPACE},
        "lambda_s": [
            {"sampler": f"reduced-{word}", "budget": calls, "lambda_s": value,
             **error(f"reduced-{word}", calls, 2.0, lambda_s=value)}
            for word in WORDS for calls in CALLS for value in LAMBDAS
        ],
        "bias": biases(),
        "conditioning": [
            {"sampler": name, "grid": grid, "budget": calls, "conditioning": at, **error(name, calls, power, conditioning=at)}
            for name in ("naive-obab", "reduced-obab", "reduced-bab") for grid, power in GRIDS.items()
            for calls in CALLS for at in ("end", "start")
        ],
        "premise": [
            {"t": t, "share": share, "change": premise(t, share * float(PROCESS.tau(torch.tensor(t, dtype=torch.float64))))}
            for t in TIMES for share in (0.01, 0.05, 0.2)
        ],
        "largest_step": [
            {"t": t, "word": word, **{rule: largest_step(word, rule, t) for rule in ("naive", "reduced")}}
            for word in WORDS for t in TIMES
        ],
        "local_terms": [{"t": t, **{rule: local_terms(rule, t) for rule in ("naive", "reduced")}} for t in TIMES],
    }  # fmt: skip
    write_text(file, json.dumps(result, indent=1) + "\n")
    write_bytes(drawing, picture(cells))


if __name__ == "__main__":
    main()
