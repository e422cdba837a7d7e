"""The image files of a folder: every type that Pillow itself decodes; links are followed, hidden names skipped."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from PIL import Image

from sigmatune.support.errors import SigmaTuneError

NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
"""Formats that Pillow recognises but decodes with other programs."""

KINDS = 12
"""Endings that are counted separately; further endings are counted together."""

HIDDEN, BROKEN, CIRCLE, OTHER = "hidden name", "broken link", "link in a circle", "no regular file"


@lru_cache(maxsize=1)
def suffixes() -> frozenset[str]:
    """The endings of image files, in lower case with their dot."""
    known = Image.registered_extensions()  # loads all of Pillow's plugins
    return frozenset(end for end, kind in known.items() if kind in Image.OPEN and kind not in NOT_DECODED)


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        files: The image files, sorted by path.
        left_out: How many entries were skipped, by reason; a hidden folder counts as one.
        empty: The first-level subfolders without any image.
    """

    files: list[Path]
    left_out: Mapping[str, int] = field(default_factory=dict)
    empty: tuple[str, ...] = ()


def listing(folder: Path) -> Listing:
    """Lists the image files of a folder, recursively.

    Links to files and folders are followed; a link to a folder that it lies in is not. Files and folders whose names
    begin with a dot are skipped. The ending determines a file's type.

    Raises:
        SigmaTuneError: if a folder cannot be read.
    """
    files: list[Path] = []
    left_out: Counter[str] = Counter()
    inside: list[str] = []
    waiting = [(folder, frozenset({_identity(folder.stat())}))]
    while waiting:
        place, above = waiting.pop()
        for entry in _entries(place):
            path = place / entry.name
            reason, status = _looked_at(entry)
            if status is not None and stat.S_ISDIR(status.st_mode):
                if _identity(status) not in above:
                    waiting.append((path, above | {_identity(status)}))
                    inside += [entry.name] * (place == folder)
                    continue
                reason = CIRCLE
            if reason is None:
                files.append(path)
            else:
                left_out[reason] += 1
    files.sort()
    full = {file.relative_to(folder).parts[0] for file in files}
    return Listing(files, _grouped(left_out), tuple(sorted(set(inside) - full)))


def _entries(place: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return list(entries)
    except OSError as error:
        raise SigmaTuneError(f"cannot read the folder {place}: {error.strerror or error}.") from None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _looked_at(entry: os.DirEntry[str]) -> tuple[str | None, os.stat_result | None]:
    """Why an entry is skipped, None for a folder or an image; and its status, where it has one."""
    if entry.name.startswith("."):
        return HIDDEN, None
    try:
        status = entry.stat()
    except OSError:
        return BROKEN, None
    if stat.S_ISDIR(status.st_mode):
        return None, status
    ending = Path(entry.name).suffix.lower()
    if not stat.S_ISREG(status.st_mode):
        return OTHER, status
    return None if ending in suffixes() else f"type {ending}" if ending else "type without an ending", status


def _grouped(left_out: Counter[str]) -> dict[str, int]:
    """The counts, those of rare endings together."""
    rare = [reason for reason, _ in left_out.most_common() if reason.startswith("type ")][KINDS:]
    kept = {reason: count for reason, count in sorted(left_out.items()) if reason not in rare}
    return kept | ({"other types": sum(left_out[reason] for reason in rare)} if rare else {})


def left_out_text(left_out: Mapping[str, int]) -> str:
    """The counts in words: ``left out: 2 hidden name, 1 type .txt``; empty for none."""
    parts = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
    return f"left out: {parts}" if parts else ""
