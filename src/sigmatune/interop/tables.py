r"""Published tables of noise levels, as printed by their authors, with their sources.

A table is the list of levels of its own number of steps; at another number the curve through them is resampled
(:meth:`~sigmatune.core.schedule.Schedule.resample`). The Align Your Steps tables have one more entry than steps: with it a
sampler would stop above 0, and users replace it by the final 0, as here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sigmatune.core.schedule import Schedule
from sigmatune.interop.resolution import sd3_reference
from sigmatune.noise import NoisePath
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.registry import Registry

AYS = "Align Your Steps: Optimizing Sampling Schedules in Diffusion Models (Sabour et al., 2024), https://arxiv.org/abs/2404.14507"
AYS_PAGE = "https://research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html"


@dataclass(frozen=True)
class Table:
    """A published table.

    Attributes:
        name: Its name here.
        source: Its source: title, authors, year, address.
        model: Its model.
        build: (path, steps) -> levels without the final 0; steps None for the table's own number.
    """

    name: str
    source: str
    model: str
    build: Callable[[NoisePath | None, int | None], Schedule]


def _listed(*levels: float) -> Callable[[NoisePath | None, int | None], Schedule]:
    def build(path: NoisePath | None, steps: int | None) -> Schedule:
        sigmas = np.append(np.array(levels), 0.0)
        if path is not None:  # printed to three digits: the first may lie above the model's own by that rounding
            top = path.sigma_max
            if sigmas[0] > top and np.isclose(sigmas[0], top, rtol=2e-4):
                sigmas[0] = top
        schedule = Schedule(sigmas)
        return schedule if steps is None else schedule.resample(steps)

    return build


def _sd3(path: NoisePath | None, steps: int | None) -> Schedule:
    if path is None or steps is None:
        raise SigmaTuneError("the levels of sd3-ref depend on the model's shift and on the number of steps; give both.")
    return sd3_reference(path, steps)


TABLES: Registry[Table] = Registry(
    "published table",
    {
        "ays-sd15": Table(
            "ays-sd15", f"{AYS}, {AYS_PAGE}", "Stable Diffusion 1.5",
            _listed(14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152),
        ),
        "ays-sdxl": Table(
            "ays-sdxl", f"{AYS}, {AYS_PAGE}", "Stable Diffusion XL",
            _listed(14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113),
        ),
        "ays-svd": Table(
            "ays-svd", f"{AYS}, {AYS_PAGE}", "Stable Video Diffusion",
            _listed(700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034),
        ),
        "sd3-ref": Table(
            "sd3-ref", "Stable Diffusion 3 reference implementation (Stability AI, 2024), "
            "https://github.com/Stability-AI/sd3-ref", "Stable Diffusion 3", _sd3,
        ),
    },
)  # fmt: skip


def load(name: str, path: NoisePath | None = None, steps: int | None = None) -> Schedule:
    """Builds a schedule from a published table; its provenance is in its options.

    Args:
        name: A name in ``TABLES``.
        path: The model's noise path, which bounds the levels; needed by sd3-ref.
        steps: N; the table's own number by default.

    Raises:
        SigmaTuneError: for an unknown table, or levels outside the model's range.
    """
    table = TABLES[name]
    schedule = table.build(path, steps)
    if path is not None:
        schedule.bound(path)
    options = {"source": table.source, "made_for": table.model}
    if schedule.options:
        options["how"] = schedule.family
    return Schedule(schedule.sigmas, table.name, options)
