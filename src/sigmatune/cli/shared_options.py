"""The table of options that several commands take: each flag is defined here once, a command states its default.

Where commands mean different things by one flag, each meaning has a type of its own under that flag.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# ------------------------------------------------------------------------------------------------- the model, the machine

Model = Annotated[
    str, typer.Argument(help="emoji, digits, cifar10, a diffusers folder, a hub id, or my:model of my.py.")
]

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps.")]
TrainingDevice = Annotated[str, typer.Option("--device", help="auto, or cpu.")]

EngineName = Annotated[
    str, typer.Option("--engine", help="Where the work runs: local, ray, or ray://host:10001 (docs: Scale).")
]

MicroBatch = Annotated[int, typer.Option("--micro-batch", help="Images per network call; the plan's own by default.")]
TuningMicroBatch = Annotated[
    int, typer.Option("--micro-batch", help="Images per network call; by default 16, fewer where they are large.")
]

Seed = Annotated[int, typer.Option("--seed", help="Seed of the noise.")]
SeedOrDraw = Annotated[int, typer.Option("--seed", help="Seed of the noise; with --images, of the draw.")]
TuningSeed = Annotated[int, typer.Option("--seed", help="Seed of all noise and of the search.")]
TrainingSeed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]

SolverOption = Annotated[list[str], typer.Option("--solver-option", help="The solver's own option, such as eta=0.5.")]

MeasureOption = Annotated[
    str,
    typer.Option(
        "--measure",
        help="What the error is: whitened, rms or features, with options as in whitened:exponent=1 (docs: What an error is); "
        "by default whitened for data on a grid, else rms.",
    ),
]

# --------------------------------------------------------------------------------------------------- conditional models

Prompts = Annotated[
    Path | None, typer.Option("--prompts", help="Text models: a file with one prompt per line, all different.")
]
Labels = Annotated[
    list[int],
    typer.Option(
        "--labels",
        help="Class-conditional models: numbers of classes, such as 0 1 2; of a trained model 0 is the first in alphabetical "
        "order, and without labels it is conditioned on no class.",
    ),
]
Negative = Annotated[str | None, typer.Option("--negative-prompt", help="Prompt that guidance steers away from.")]
Guidance = Annotated[
    float | None, typer.Option("--guidance", help="Guidance scale, 1 for none; the pipeline's own by default.")
]
Interval = Annotated[
    tuple[float, float] | None,
    typer.Option("--interval", help="Noise levels a b between which guidance is on; outside it costs one evaluation."),
]
Size = Annotated[int, typer.Option("--size", help="Height and width in pixels; the pipeline's own by default.")]

# ------------------------------------------------------------------------------------------------------------------- data

TuningData = Annotated[
    str,
    typer.Option(
        "--data", help="For such solvers: images whose spectrum they are tuned for; a bundled model has its own."
    ),
]
SamplingData = Annotated[
    str, typer.Option("--data", help="Images whose spectrum auto uses; a bundled model has its own.")
]
SpectralData = Annotated[
    str,
    typer.Option("--data", help="Spectral families: images, or spectra saved as JSON; the model's own by default."),
]
RecipeData = Annotated[
    str,
    typer.Option("--data", help="Images: a folder, .npz, .npy, a data set of the hub; instead of the recipe's."),
]
TrainingData = Annotated[
    str, typer.Option("--data", help="Training images: a folder, .npz, .npy, a data set of the hub.")
]

ReferenceSource = Annotated[
    str,
    typer.Option(
        "--reference",
        help="Data: a folder, an .npz, a hub data set, or statistics (.npz); a bundled model has its own.",
    ),
]
BenchReference = Annotated[
    str, typer.Option("--reference", help="Data, as in `evaluate`; a bundled model has its own.")
]
TuningReference = Annotated[
    str,
    typer.Option(
        "--reference", help="For such solvers: data or statistics to compare with; a bundled model has its own."
    ),
]
TrainingReference = Annotated[
    str,
    typer.Option(
        "--reference",
        help="Data or statistics to compare with; a bundled model's own, or the training images, by default.",
    ),
]
ReferenceSize = Annotated[
    int, typer.Option("--size", help="Crop and resize the reference to this many pixels, 0 for as it is.")
]
Values = Annotated[
    str,
    typer.Option("--values", help="Range of the stored numbers, black to white: auto, 0..1, -1..1, 0..255, 0..65535."),
]
ValuesOrLatents = Annotated[
    str,
    typer.Option(
        "--values",
        help="Range of the stored numbers, black to white: auto, 0..1, -1..1, 0..255, 0..65535; as-is for latents.",
    ),
]

# ---------------------------------------------------------------------------------------------------------------- outputs

Force = Annotated[
    bool,
    typer.Option("--force", help="Also replace files that SigmaTune did not write and read-only ones; never an input."),
]

TuningRun = Annotated[
    Path | None,
    typer.Option(
        "--run",
        help="Folder of measurements, from which a later tune resumes; by default named after the plan file.",
    ),
]
ImagesRun = Annotated[
    Path | None,
    typer.Option("--run", help="Folder of images and features, from which a later run resumes."),
]
FeaturesRun = Annotated[Path | None, typer.Option("--run", help="Folder of features, from which a later run resumes.")]

JsonForTable = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
JsonForText = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
JsonOfFile = Annotated[bool, typer.Option("--json", help="Print the JSON of --out instead of a table.")]
JsonOfPlan = Annotated[bool, typer.Option("--json", help="Print the plan file's JSON instead of a summary.")]
JsonOfEvidence = Annotated[bool, typer.Option("--json", help="Print the evidence as JSON instead of a summary.")]
JsonOfCost = Annotated[
    bool, typer.Option("--json", help="Print the cost of the training as JSON instead of a summary.")
]
JsonOfVerdicts = Annotated[bool, typer.Option("--json", help="Print every verdict as JSON.")]
