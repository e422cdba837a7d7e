"""Runs the code in the documents and writes below it what it prints: ``python tools/update_docs.py``.

A page is run from top to bottom in an empty folder, its blocks sharing one namespace. ``python`` blocks and plots are
executed, the commands of ``bash`` blocks and of blocks without a language are run, and a ``text`` block holds what was
printed since the one before: a test fails when the two differ, by more than one in the last digit of a decimal fraction, which
another processor may round to the other side.

Exact models run as they are written. Tuning a network takes minutes, so :func:`small` puts an untrained one of a few
hundred weights in the place of the bundled ones and cuts the work that tuning it and reporting on it do; all else runs as
it stands, and nothing is skipped. What such a network gives is not shown in any ``text`` block.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib as mpl
import numpy as np
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.abstract import AbstractCodeBlockParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer, RawFencedCodeBlockLexer
from sybil.parsers.rest.lexers import DirectiveLexer

from sigmatune import cli, models, report
from sigmatune.core.schedule import Schedule
from sigmatune.evaluation import generation, leaderboard, measuring
from sigmatune.evaluation import reference_set as reference
from sigmatune.evaluation import stochastic_guard as guard_of_pictures
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.extractors.raw_pixels import PixelValues, Projections, Rings
from sigmatune.evaluation.sample import Sample
from sigmatune.models import bundled
from sigmatune.models.analytic import Analytic
from sigmatune.plan import Plan
from sigmatune.report import measurements as measure
from sigmatune.spectra.sources import open_images
from sigmatune.studio import server
from sigmatune.tuning import TuningSettings, Workbench, guard, stages
from sigmatune.tuning import gaussian_optimum as spectral
from sigmatune.tuning import spectral_search as by_spectrum
from sigmatune.tuning.gradient import DescentLimits
from sigmatune.workflows import finetune_round, judge

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

SMALL = TuningSettings(tuning=8, validation=8, held_out=8, evaluations=5, reference_steps=8, micro_batch=8)
PICTURES = 16

GIVEN = """
def my_denoiser(x, sigma):
    return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)


def my_velocity(x, t):  # of unit Gaussian data
    t = t.view(-1, 1, 1, 1)
    return x * (2 * t - 1) / ((1 - t) ** 2 + t**2)
"""
"""What a page takes for granted that its reader has."""


@functools.cache
def tiny_folder() -> Path:
    """A diffusers pipeline folder with a network that answers in a millisecond or two; it lives as long as the process."""
    import diffusers

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    diffusers.UNet2DModel(
        sample_size=8, layers_per_block=1, block_out_channels=(4,), norm_num_groups=2, mid_block_type=None,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False,
    ).save_pretrained(folder / "unet")  # fmt: skip
    shutil.copytree(models.bundled_folder("cifar10") / "scheduler", folder / "scheduler")
    return folder


@contextlib.contextmanager
def tiny_sdxl() -> Iterator[None]:
    """Puts a random pipeline of a few thousand weights in the place of SDXL, on a machine without its card."""
    import diffusers

    def small(*_args: Any, **_options: Any) -> Any:
        sys.path.insert(0, str(ROOT / "tests"))
        return importlib.import_module("tiny_pipelines").sdxl()

    kind = diffusers.StableDiffusionXLPipeline
    with mock.patch.object(kind, "from_pretrained", small), mock.patch.object(kind, "to", lambda self, _device: self):
        yield


@functools.cache
def tiny_reference() -> Path:
    """Statistics of some noise in the place of the training images of :func:`tiny_folder`; lives as long as it."""
    file = tiny_folder() / "reference.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3), dtype=np.uint8)
    used = [extractor("efficientnet-lite0", (3, 8, 8)), PixelValues(), Projections(), Rings()]
    reference.measure(open_images(pixels, layout="NHWC"), used, name="noise").save(file)
    return file


@contextlib.contextmanager
def little_tuning() -> Iterator[None]:
    """Cuts the work of tuning networks, stage by stage and in the guard and the report; exact models keep all of theirs."""
    make, tuner = Workbench.__init__, importlib.import_module("sigmatune.tuning.tuner")
    descend, try_out, find, grid = stages.tune_by_gradient, stages.tune_by_kriging, stages.optimal, stages._grid
    judge = guard.judge

    def exact(bench: Workbench) -> bool:
        return isinstance(bench.model, Analytic)

    def shortened(self: Workbench, model: models.Denoiser, settings: TuningSettings | None = None, **rest: Any) -> None:
        make(self, model, settings if isinstance(model, Analytic) else SMALL, **rest)

    def descended(bench: Workbench, *rest: Any, limits: DescentLimits, **named: Any) -> Plan:
        return descend(bench, *rest, limits=limits if exact(bench) else replace(limits, iterations=1), **named)

    def tried(bench: Workbench, *rest: Any, trials: int, **named: Any) -> list[Plan]:
        return try_out(bench, *rest, trials=trials if exact(bench) else 1, **named)

    def hasty(*rest: Any, **named: Any) -> Schedule:  # for images only, and no page tunes an exact model of them
        with mock.patch.dict(spectral.STOP, maxiter=1):
            return find(*rest, **named)

    def coarse(task: Any) -> int:
        return grid(task) if exact(task.bench) else 2 * task.most

    def judged(bench: Workbench, *rest: Any, **named: Any) -> guard.Judged:
        most = guard.MOST_REFERENCE_STEPS if exact(bench) else 2 * SMALL.reference_steps
        with mock.patch.object(guard, "MOST_REFERENCE_STEPS", most):
            return judge(bench, *rest, **named)

    with (
        mock.patch.object(Workbench, "__init__", shortened),
        mock.patch.object(stages, "tune_by_gradient", descended),
        mock.patch.object(stages, "tune_by_kriging", tried),
        mock.patch.object(stages, "optimal", hasty),
        mock.patch.object(stages, "_grid", coarse),
        mock.patch.object(tuner, "judge", judged),
        mock.patch.object(measure, "BUDGETS", (4, 6)),
        mock.patch.object(report, "GLANCE_STEPS", 8),
    ):
        yield


@contextlib.contextmanager
def small() -> Iterator[None]:
    """Makes networks small: bundled names load :func:`tiny_folder`, :func:`little_tuning`, few images to evaluate."""
    tiny, many = tiny_folder(), generation.generate
    latent = models.bundled_folder("cifar10-latent")  # small as it is

    def few(model: models.Denoiser, plan: Plan, n: int, *rest: Any, **named: Any) -> Sample:
        shard = named.get("only") is not None  # its pieces are of n images
        return many(model, plan, n if shard else min(n, PICTURES), *rest, **named)

    with (
        little_tuning(),
        tiny_sdxl(),
        mock.patch.object(models, "bundled_folder", lambda name: latent if name == latent.name else tiny),
        mock.patch.object(bundled, "reference_file", return_value=tiny_reference()),
        mock.patch.object(measuring, "reference_file", return_value=tiny_reference()),
        mock.patch.object(generation, "generate", few),
        mock.patch.object(leaderboard, "generate", few),
        mock.patch.object(judge, "generate", few),
        mock.patch.object(guard_of_pictures, "RESAMPLES", 60),
        mock.patch.object(by_spectrum, "MOST", 40),
        mock.patch.multiple(finetune_round, TABLE_IMAGES=16, TABLE_LEVELS=8),
        mock.patch.object(server, "_run"),  # the page is built, and served to no browser
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=f"{PICTURES} images cannot fill")  # true here, and on purpose
        yield


class Fenced(AbstractCodeBlockParser):
    """The fenced blocks of one language; the empty name is for blocks without any."""

    def __init__(self, language: str, run: Any) -> None:
        if language:
            lexer = FencedCodeBlockLexer(language, mapping={"language": "arguments", "source": "source"})
        else:
            lexer = RawFencedCodeBlockLexer()
        super().__init__([lexer], language or "none", run)
        self._bare = not language

    def __call__(self, document: Document) -> Iterator[Region]:
        for region in self.lexers(document):
            region.parsed, region.evaluator = region.lexemes["source"], self._evaluator
            yield region


class Page:
    """One document whose blocks can be run.

    Attributes:
        stale: The ``text`` blocks that do not hold what was printed: (line, what was printed).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stale: list[tuple[int, str]] = []
        self._printed = io.StringIO()
        self._edits: list[tuple[int, int, str]] = []
        parsers = [Fenced("python", self._python), Fenced("bash", self._commands), Fenced("", self._commands),
                   Fenced("text", self._compare), self._plots]  # fmt: skip
        self.document = Sybil(parsers, path=str(ROOT)).parse(path)

    def run(self) -> None:
        """Runs all blocks in an empty folder."""
        mpl.use("Agg")
        exec(GIVEN, self.document.namespace)
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), mpl.rc_context(), small():
            for example in self.document.examples():
                example.evaluate()

    def updated(self) -> str:
        """The page's text, with what was printed in its ``text`` blocks."""
        text = self.document.text
        for start, end, new in sorted(self._edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def _plots(self, document: Document) -> Iterator[Region]:
        for region in DirectiveLexer("plot")(document):
            region.parsed, region.evaluator = region.lexemes["source"], self._python
            yield region

    def _python(self, example: Example) -> None:
        with contextlib.redirect_stdout(self._printed):
            PythonEvaluator()(example)

    def _compare(self, example: Example) -> None:
        printed = "".join(f"{line.rstrip()}\n" for line in self._printed.getvalue().splitlines())
        self._printed.seek(0)
        self._printed.truncate()
        if not alike(printed, example.parsed):
            start = self.document.text.index("\n", example.start) + 1
            self._edits.append((start, start + len(example.parsed), printed))
            self.stale.append((example.line, printed))

    def _commands(self, example: Example) -> None:
        for line in example.parsed.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["sigmatune"]:
                self._sigmatune(words)
            elif words[:1] == ["make"]:
                _check_target(words[1])
            elif words and example.region.lexemes.get("arguments") == "bash":
                raise ValueError(f"{self.path.name}, line {example.line}: nobody runs {line!r}.")

    def _sigmatune(self, words: list[str]) -> None:
        streams = contextlib.redirect_stdout(self._printed), contextlib.redirect_stderr(io.StringIO())
        with streams[0], streams[1] as errors, mock.patch.object(sys, "argv", words), warnings.catch_warnings():
            try:
                cli.main()
            except SystemExit as stop:
                if stop.code:
                    raise ValueError(f"{shlex.join(words)} failed: {errors.getvalue()}") from None


NUMBER = re.compile(r"-?\d+(?:\.(\d+))?(?:e([-+]?\d+))?")


def alike(printed: str, shown: str) -> bool:
    """Whether two texts say the same, words and whole numbers to the letter, fractions but for one in the last digit."""
    words = [[line.split() for line in NUMBER.sub("0", text).splitlines()] for text in (printed, shown)]
    if words[0] != words[1]:
        return False
    pairs = zip(NUMBER.finditer(printed), NUMBER.finditer(shown), strict=True)
    return all(abs(float(a[0]) - float(b[0])) <= 1.01 * max(_unit(a), _unit(b)) for a, b in pairs)


def _unit(number: re.Match[str]) -> float:
    """The worth of the last digit of a decimal fraction; of a whole number nothing, for it counts something."""
    return 0.0 if number[1] is None else 10.0 ** (int(number[2] or 0) - len(number[1]))


def _check_target(target: str) -> None:
    """`make` itself is not run here, continuous integration does that: but the target has to exist."""
    if f"\n{target}:" not in (ROOT / "Makefile").read_text():
        raise ValueError(f"the Makefile has no target {target}.")


def main() -> None:
    """Runs every page and rewrites those whose output has changed."""
    for path in PAGES:
        page = Page(path)
        page.run()
        if page.stale:
            path.write_text(page.updated())
        print(f"{path.relative_to(ROOT)}: {'rewritten' if page.stale else 'up to date'}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
