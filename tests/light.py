"""A model for tests that start processes: importing diffusers takes a process longer than all that such tests do."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import sigmatune as st
from sets import noise_pictures
from sigmatune.workflows.build_exact import build

LIGHT = "exact:emoji-empirical-16"
"""The exact denoiser of 60 images of noise, which needs torch alone."""


def build_light(folder: Path) -> None:
    """Builds it for every process whose SIGMATUNE_CACHE is this folder, and makes it this process's cache."""
    archive = folder / "emoji.npz"
    np.savez(archive, images=noise_pictures(60), labels=np.array(["Animals", "Flags"] * 30))
    os.environ["SIGMATUNE_CACHE"] = str(folder)
    build(LIGHT.removeprefix("exact:"), archive, reference=0)


def prepare_light(folder: Path, solver: str, **steps: int) -> None:
    """Writes a data set and plans of so many steps for it into a folder."""
    np.savez(folder / "data.npz", images=noise_pictures(60))
    model = st.load(LIGHT)
    for name, count in steps.items():
        st.compile_plan(st.build_schedule("karras", count, model.path), solver, model).save(folder / f"{name}.json")
