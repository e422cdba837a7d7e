"""Solvers against the samplers of ComfyUI: numbers that its own code made (tools/clients/solver_values.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sigmatune.core.loop import Machine
from sigmatune.solvers import POSITION, SOLVERS

DOCUMENT = json.loads((Path(__file__).parent / "clients" / "solver_values.json").read_text())
CASES = DOCUMENT["cases"]
MEAN, VARIANCE = DOCUMENT["data"]["mean"], DOCUMENT["data"]["variance"]


def denoiser(x, sigma):
    """Two Gaussians at +- MEAN, in VE scale."""
    far = VARIANCE + sigma**2
    return (VARIANCE * x + sigma**2 * MEAN * torch.tanh(MEAN * x / far)) / far


def end(case, **changed):
    """The end of our machine from the case's start, with its noises."""
    sigmas = torch.tensor(case["sigmas"], dtype=torch.float64)
    table = SOLVERS[case["solver"]].build(sigmas, **{**case["options"], **changed})
    x, noise = (torch.tensor(case[name], dtype=torch.float64) for name in ("start", "noise"))
    machine = Machine(table, torch.float64, torch.device("cpu"), 1)
    first = (x / (1 + sigmas[0] ** 2).sqrt()).unsqueeze(0)
    machine.S = [first, *(torch.zeros_like(first) for _ in range(table.width - 1))]
    for k, level in enumerate(table.q):
        D = denoiser(machine.input(k) * (1 + level**2).sqrt(), level)
        machine.advance(k, D, lambda channel, k=k: noise[k].clone().unsqueeze(0))
    return (machine.result() * (1 + sigmas[-1] ** 2).sqrt())[0].numpy()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['solver']}-{case['client']}-{case['path']}")
def test_the_end_is_that_of_the_client(case):
    """In float64, from the same start, with the same noises; the client holds its levels in float32 in places."""
    np.testing.assert_allclose(end(case), case["end"], rtol=1e-6, atol=1e-8)


def test_every_solver_that_the_client_runs_is_compared():
    ours_alone = {"dpmpp3m", "unipc1", "unipc2", "unipc3", "deis2", "deis3", "ipndm1", "ipndm2", "ipndm3", "multistep"}
    assert set(POSITION) - {case["solver"] for case in CASES} == {*ours_alone, "res2s"}
    assert len(DOCUMENT["client"]["commit"]) == 40


def test_what_differs_from_the_client_on_purpose():
    """The exact integrals of er-sde and the whole parabola of sde-dpmpp3m are near the client's, and not equal."""
    for name, changed, far in (("er-sde", {"points": 0}, 1e-2), ("sde-dpmpp3m", {"curve": 1.0}, 0.5)):
        case = next(case for case in CASES if case["solver"] == name)
        difference = np.abs(end(case, **changed) - np.array(case["end"])).max()
        assert 1e-6 < difference < far, name
