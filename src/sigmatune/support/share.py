"""Shards of a job: several machines each do a share of its pieces, and one of them joins the results.

A job is a list of pieces with costs. Every machine knows the whole list and takes its own share of it, so no two have to talk:
pieces go, the most expensive first, to the share with the least work so far. A share keeps its results in a run folder of its
own and, when all are there, writes a manifest: which share of how many, of what job, and which files. Only shares of one
and the same job can be joined.
"""

from __future__ import annotations

import heapq
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sigmatune.support import json_file
from sigmatune.support.errors import SigmaTuneError, shown
from sigmatune.support.files import make_folder, write_bytes, write_text
from sigmatune.support.json_file import Strict
from sigmatune.support.reading import data_of, unsealed

FORMAT = "sigmatune/shard"
VERSION = 1
MANIFEST = "shard.json"
MOST = 10_000
"""Most shares of a job."""

LARGEST = 2**31
"""Most bytes of a file of a share."""

_FILE = re.compile(r"[0-9a-f]{32}/[\w.@+-]+/\d{8,}-\d{8,}\.np[yz]")


@dataclass(frozen=True)
class Share:
    """One share of a job.

    Attributes:
        number: From 1 to ``of``.
        of: How many there are.

    Raises:
        SigmaTuneError: for a number outside of this range.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MOST:
            raise SigmaTuneError(f"a shard is i/n with 1 <= i <= n <= {MOST:,}, such as 2/8, not {self}.")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Share:
        """Reads ``2/8``.

        Raises:
            SigmaTuneError: for anything else.
        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        if match is None:
            raise SigmaTuneError(f"a shard is written i/n, such as 2/8, not {shown(text)}.")
        return cls(int(match[1]), int(match[2]))

    def folder(self, run: Path) -> Path:
        """The run folder of the share, named after that of the whole job."""
        return run.with_name(f"{run.stem}-{self.number}-of-{self.of}{run.suffix}")

    def take(self, costs: Sequence[int]) -> list[int]:
        """The places of its pieces in the list, in order; every piece belongs to exactly one share.

        Args:
            costs: The cost of each piece, in any unit, positive.

        Raises:
            SigmaTuneError: if there are fewer pieces than shares.
        """
        if self.of > len(costs):
            count = f"{len(costs)} pieces" if len(costs) > 1 else "one piece"
            raise SigmaTuneError(f"this job consists of {count}, fewer than {self.of} shards; take fewer shards.")
        loads, mine = [(0, number) for number in range(1, self.of + 1)], []
        for place in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
            load, number = heapq.heappop(loads)
            heapq.heappush(loads, (load + costs[place], number))
            if number == self.number:
                mine.append(place)
        return sorted(mine)


class Manifest(Strict):
    """The manifest of a finished share."""

    format: Literal["sigmatune/shard"]
    version: Literal[1]
    number: int = Field(ge=1)
    of: int = Field(ge=1, le=MOST)
    job: dict[str, Any]
    files: list[str]


def finish(folder: Path, share: Share, job: Mapping[str, Any], homes: Sequence[str]) -> None:
    """Writes the manifest of a share whose results are all there.

    Args:
        folder: Its run folder.
        share: Which one.
        job: The identity of the whole job, JSON-ready.
        homes: The folders inside the run folder that hold results of this job.

    Raises:
        SigmaTuneError: if it cannot be written.
    """
    files = sorted(
        name
        for home in set(homes)
        for path in (folder / home).glob("*/*")
        if _FILE.fullmatch(name := path.relative_to(folder).as_posix())
    )
    fields = {"format": FORMAT, "version": VERSION, "number": share.number, "of": share.of, "job": job, "files": files}
    write_text(folder / MANIFEST, json.dumps(fields, indent=1) + "\n")


def check(folder: Path) -> None:
    """Refuses the run folder of a share that is missing, unfinished, or was not written by SigmaTune.

    Raises:
        SigmaTuneError: naming it.
    """
    _read(folder)


def manifests(folders: Sequence[Path], job: Mapping[str, Any], same: Callable[[str, Any, Any], bool]) -> list[Manifest]:
    """The manifests of all shares of a job, in the order of the folders.

    Args:
        folders: The shares' run folders.
        job: The identity of the job that is to be joined.
        same: Compares an entry of the identity, given its name and both values.

    Raises:
        SigmaTuneError: in one sentence, if a share is missing, unfinished, there twice, or of another job.
    """
    known = [_read(folder) for folder in folders]
    for folder, manifest in zip(folders, known, strict=True):
        _refuse_foreign(folder, manifest.job, job, same)
    first, places = known[0], dict[int, Path]()
    for folder, manifest in zip(folders, known, strict=True):
        if manifest.of != first.of:
            raise SigmaTuneError(
                f"{folders[0]} is one of {first.of} shards and {folder} one of {manifest.of}; join shards of one division."
            )
        if manifest.number in places:
            other = places[manifest.number]
            raise SigmaTuneError(f"{other} and {folder} are both shard {manifest.number}/{first.of}; pass it once.")
        places[manifest.number] = folder
    missing = [str(number) for number in range(1, first.of + 1) if number not in places]
    if missing:
        names = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        raise SigmaTuneError(f"of {first.of} shards {len(missing)} are missing: {names}; run them, or pass them, too.")
    return known


def _read(folder: Path) -> Manifest:
    file = folder / MANIFEST
    if not folder.is_dir():
        raise SigmaTuneError(f"there is no folder {folder}; pass the run folders of all shards.")
    if not file.exists():
        raise SigmaTuneError(f"{folder} holds no finished shard; run that shard again and it resumes where it was.")

    def parse(text: str) -> Manifest:
        return json_file.parse(text, Manifest, kind="shard", form=FORMAT, version=VERSION)

    manifest = json_file.read(file, parse, kind="shard")
    wrong = next((name for name in manifest.files if not _FILE.fullmatch(name)), None)
    if wrong is not None or manifest.number > manifest.of:
        raise SigmaTuneError(f"{file} was not written by SigmaTune; run that shard again.")
    return manifest


def _refuse_foreign(
    folder: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any], same: Callable[[str, Any, Any], bool]
) -> None:
    for name in dict.fromkeys([*ours, *theirs]):
        if name in ours and name in theirs and same(name, theirs[name], ours[name]):
            continue
        one, other = theirs.get(name), ours.get(name)
        short = all(isinstance(value, int | str) and len(str(value)) < 40 for value in (one, other))
        how = f" ({one}, not {other})" if short else ""
        raise SigmaTuneError(
            f"{folder} is a shard of a job with another {name}{how}; repeat the shards' own command with --merge."
        )


def join(folder: Path, manifest: Manifest, target: Path, names: Mapping[str, str]) -> None:
    """Puts the files of a share into the run folder of the whole job, by links where the file system allows them.

    Args:
        folder: The share's run folder.
        manifest: Its manifest.
        target: The run folder of the whole job.
        names: What the share's inner folders are called there.

    Raises:
        SigmaTuneError: if a file is missing or was changed, or cannot be written.
    """
    for name in manifest.files:
        source, (home, rest) = folder / name, name.split("/", 1)
        if unsealed(source) is None:
            raise SigmaTuneError(
                f"{source} is missing or was changed; run shard {manifest.number}/{manifest.of} again."
            )
        place = target / names.get(home, home) / rest
        if unsealed(place) is not None:
            continue
        make_folder(place.parent)
        with suppress(OSError):
            place.unlink(missing_ok=True)
            os.link(source, place)
            continue
        write_bytes(place, data_of(source, most=LARGEST))
