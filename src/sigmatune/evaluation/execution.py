"""How a job on noises is carried out: the seed of its noises, the folder that keeps its results, its progress, and its engine.

What a job measures is its own arguments; everything here changes when and where the work happens, the seed also which noises
it is done on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sigmatune.support.engine import LOCAL, Engine
from sigmatune.support.progress import Progress


@dataclass(frozen=True, eq=False)
class Execution:
    """How a job on noises is carried out.

    Attributes:
        seed: Seed of the noises; the noise of row i depends on (seed, i) alone.
        folder: A run folder, created if missing, which keeps features and end points, so that a stopped job resumes. Without
            it everything stays in memory.
        keep_images: The folder also keeps the images of which features are taken.
        progress: Receives the present stage, and what is done of how much, in any unit.
        engine: Where the network is called and features are taken; the results are the same.
    """

    seed: int = 0
    folder: Path | None = None
    keep_images: bool = False
    progress: Progress | None = None
    engine: Engine = LOCAL

    def reporting(self, progress: Progress | None) -> Execution:
        """The same for a part of the job, which reports its own progress."""
        return replace(self, progress=progress)


PLAIN = Execution()
"""Seed 0, nothing kept, nothing reported, on this machine."""
