"""Checks what is to be published: ``python tools/check_dist.py dist``, after ``python -m build``.

The wheel has to hold the package, all of it and nothing else; the source archive all that git tracks, but for the weights of
the models that benchmarks were run on. Both have to stay small.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {"weights": 30, "wheel": 30, "archive": 34}
"""Most megabytes (of a million bytes)."""

NOT_IN_ARCHIVE = {"benchmarks/models/*/**/*.safetensors"}


def package_files(root: Path) -> set[str]:
    """The files that belong into the wheel, as paths from ``src``."""
    candidates = (root / "src" / "sigmatune").rglob("*")
    return {
        file.relative_to(root / "src").as_posix()
        for file in candidates
        if file.is_file() and "__pycache__" not in file.parts
    }


def tracked(root: Path) -> set[str]:
    """What git tracks; empty in a folder that is no clone."""
    done = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False)
    left_out = {file.relative_to(root).as_posix() for pattern in NOT_IN_ARCHIVE for file in root.glob(pattern)}
    return set(done.stdout.splitlines()) - left_out if done.returncode == 0 else set()


def megabytes(files: Iterable[Path]) -> float:
    """Their size together."""
    return sum(file.stat().st_size for file in files) / 1e6


def problems_of_wheel(names: set[str], root: Path) -> list[str]:
    """What is wrong with a wheel of these files."""
    held = {name for name in names if ".dist-info/" not in name}
    wanted = package_files(root)
    said = [f"the wheel lacks {name}" for name in sorted(wanted - held)]
    said += [f"the wheel holds {name}" for name in sorted(held - wanted)]
    if not any(name.endswith("licenses/LICENSE") for name in names):
        said.append("the wheel lacks the licence")
    return said


def problems_of_archive(names: set[str], root: Path) -> list[str]:
    """What is wrong with a source archive of these files, paths from its own root."""
    added = {"PKG-INFO", ".gitignore"}
    wanted = tracked(root)
    said = [f"the archive lacks {name}" for name in sorted(wanted - names)]
    return said + [f"the archive holds {name}" for name in sorted(names - wanted - added) if wanted]


def main(folder: Path) -> None:
    """Prints the sizes, and exits with the list of problems."""
    [wheel], [archive] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    sizes = {
        "weights": megabytes((ROOT / "src/sigmatune/models/weights").rglob("*.*")),
        "wheel": megabytes([wheel]),
        "archive": megabytes([archive]),
    }
    with zipfile.ZipFile(wheel) as opened:
        problems = problems_of_wheel(set(opened.namelist()), ROOT)
    with tarfile.open(archive) as opened_archive:
        members = {member.name.partition("/")[2] for member in opened_archive if member.isfile()}
    problems += problems_of_archive(members, ROOT)
    for name, limit in LIMITS.items():
        print(f"{name}: {sizes[name]:.1f} MB (limit {limit})")
        if sizes[name] > limit:
            problems.append(f"{name}: {sizes[name]:.1f} MB are more than {limit}")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
