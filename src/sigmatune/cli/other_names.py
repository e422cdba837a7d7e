"""Options that one command or another program calls differently: a message names the one that the command knows."""

from __future__ import annotations

from collections.abc import Collection

ALIKE = (
    ("--reference", "--data", "--dataset", "--real"),
    ("--steps", "--calls", "--num-inference-steps", "--nfe"),
    ("--solvers", "--solver", "--sampler", "--samplers"),
    ("--families", "--family", "--schedule", "--scheduler"),
    ("--plans", "--plan"),
    ("--out", "--output", "--outdir", "--out-dir"),
    ("--n", "--num", "--count", "--num-images", "--num-samples", "--samples", "--images"),
    ("--guidance", "--cfg", "--cfg-scale", "--guidance-scale", "--scale"),
    ("--negative-prompt", "--negative"),
    ("--prompts", "--prompt"),
    ("--labels", "--label", "--class", "--classes"),
    ("--batch", "--micro-batch", "--batch-size"),
    ("--size", "--resolution", "--height", "--width"),
    ("--device", "--cuda", "--gpu"),
    ("--force", "--overwrite", "--yes"),
    ("--budget", "--time", "--time-limit"),
    ("--set", "--option", "--solver-option"),
)
"""Names of one thing."""


def known_as(option: str, options: Collection[str]) -> str | None:
    """What a command calls an option that it does not know; None if it has nothing of the kind.

    >>> known_as("--data", {"--reference", "--out"}), known_as("--data", {"--out"})
    ('--reference', None)
    """
    alike = (other for names in ALIKE if option in names for other in names)
    return next((other for other in alike if other in options), None)
