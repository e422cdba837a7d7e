"""A distance to data as the objective of a black-box search, for deterministic and stochastic plans."""

from __future__ import annotations

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import whole
from sigmatune.evaluation.evaluate import Wanted, check
from sigmatune.evaluation.extractors import Extractor
from sigmatune.evaluation.generation import generate
from sigmatune.evaluation.reference_set import Reference
from sigmatune.plan import Plan
from sigmatune.statistics.frechet import Gaussian
from sigmatune.statistics.moments import Moments
from sigmatune.support.engine import LOCAL, Engine


class FrechetObjective:
    """The squared Frechet distance of a plan's images to data; a function of the plan for ``tune_by_trials``.

    The workbench's store, if it has one, keeps the distances, so that a stopped search resumes at no cost.

    A plan chosen by this objective may overfit its noises: evaluate it with another seed.

    Args:
        model: The denoiser.
        reference: The data.
        extractor: The extractor of the features.
        space: The space; narrow spaces need fewer images.
        n: Images per plan.
        seed: Seed of their noise.
        engine: Where the images are sampled and their features taken.

    Raises:
        SigmaTuneError: if the reference is of other images or extractors or lacks the space.
    """

    def __init__(
        self,
        model: Denoiser,
        reference: Reference,
        extractor: Extractor,
        space: str,
        *,
        n: int = 512,
        seed: int = 0,
        engine: Engine = LOCAL,
    ) -> None:
        self.wanted = Wanted.of(["fd"], extractor, [space])
        check(self.wanted, reference, tuple(model.pixel_shape))
        self.known = reference.space(extractor.name, self.wanted.spaces[0])
        self.model, self.n, self.seed, self.engine = model, whole(n, "n"), seed, engine
        self.__qualname__ = f"frechet to {reference.spec()} in {space} of {extractor.spec()}, n {n}, seed {seed}"

    def __call__(self, plan: Plan) -> float:
        """The distance of a plan's images."""
        extractor, base = self.wanted.extractor, self.wanted.spaces[0].base
        sample = generate(self.model, plan, self.n, [extractor], seed=self.seed, engine=self.engine)
        rows = self.known.seen(sample.rows(extractor.name, base))
        return Gaussian.of(Moments.of(rows)).distance(self.known.gaussian)
