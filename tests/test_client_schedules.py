"""Schedules against those of ComfyUI, Forge and RES4LYF: numbers of their own code (tools/clients/schedule_values.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sigmatune.noise import VE, Flow, vp
from sigmatune.schedules import build

DOCUMENT = json.loads((Path(__file__).parent / "clients" / "schedule_values.json").read_text())
ROWS = DOCUMENT["rows"]
PATHS = {"vp": vp("scaled_linear", beta_start=0.00085, beta_end=0.012), "flow": Flow(3.0), "wide": VE(0.001, 1000.0)}
ROUNDED = ("beta-open", "beta57")
"""ComfyUI takes these at whole timesteps."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['family']}-{row['path']}-{row['steps']}")
def test_the_levels_are_those_of_the_client(row):
    path = PATHS[row["path"]]
    ours, theirs = build(row["family"], row["steps"], path, **row["options"]).sigmas, np.array(row["sigmas"])
    if row["path"] == "flow":
        ours = 1 / (1 + 1 / np.maximum(ours, 1e-300))
    if row["family"] == "comfy-ddim-uniform" and len(theirs) > len(ours):
        theirs = theirs[len(theirs) - len(ours) :]  # ComfyUI makes more steps than it is asked for
    if row["family"] in ROUNDED:
        with np.errstate(divide="ignore"):
            ve = (s[:-1] / (1 - s[:-1]) if row["path"] == "flow" else s[:-1] for s in (ours, theirs))
            t, found = (path.position(np.minimum(s, path.sigma_max)) for s in ve)
        np.testing.assert_allclose(t, found, atol=0.51)
        return
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-7)


def test_every_client_is_named_with_its_commit():
    assert set(DOCUMENT["clients"]) == {"ComfyUI", "Forge", "RES4LYF"}
    assert all(len(commit) == 40 for commit in DOCUMENT["clients"].values())
    assert {row["client"] for row in ROWS} == set(DOCUMENT["clients"])
