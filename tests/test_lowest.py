"""constraints-lowest.txt and pyproject.toml say the same, so that what `make lowest` tries is what is promised."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def pins(name: str) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return {_plain(line.split("==")[0]): line.split("==")[1] for line in lines if line}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def lowest() -> dict[str, str]:
    """The lower bounds of the package and of its extras for users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [
        *project["dependencies"],
        *(one for name, some in extras.items() if name not in ("dev", "docs") for one in some),
    ]
    bounds: dict[str, str] = {}
    for requirement in asked:
        name, bound = re.fullmatch(r"([\w.-]+)(?:>=|==)([\d.]+)", requirement).groups()
        assert bounds.setdefault(_plain(name), bound) == bound, f"two lower bounds of {name}"
    return bounds


def _numbers(version: str) -> list[int]:
    numbers = [int(part) for part in version.split(".")]
    return numbers + [0] * (4 - len(numbers))


def test_every_lower_bound_is_the_version_that_is_tried():
    tried, bounds = pins("constraints-lowest.txt"), lowest()
    for name, bound in bounds.items():
        assert _numbers(tried[name]) == _numbers(bound), name
    assert set(tried) - set(bounds) == {"transformers"}, "pinned for peft alone"


def test_the_extra_of_developers_asks_for_no_less():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = lowest()
    for requirement in project["optional-dependencies"]["dev"]:
        name, bound = re.fullmatch(r"([\w.-]+)(?:>=|==)([\d.]+)", requirement).groups()
        assert _numbers(bound) >= _numbers(bounds.get(_plain(name), "0")), name


def test_the_newest_versions_are_above_the_lowest():
    newest = pins("constraints.txt")
    for name, version in pins("constraints-lowest.txt").items():
        assert _numbers(newest[name]) >= _numbers(version), name
