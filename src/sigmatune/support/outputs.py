"""One function decides what a command may write, before any work.

- A file that SigmaTune wrote, of the same kind, may be replaced, and so may an empty one: the same command can be run
  again.
- Anything else, and a read-only file, stays unchanged without ``--force``.
- A command never writes to its inputs, nor to anything inside a folder that it reads.
- Outputs are regular files (links are followed), and no two of them are the same file.

Every file that SigmaTune writes states its kind where its format allows: JSON in ``"format"``, HTML as
its generator, PNG and SVG as their software, an .npz in the comment of its archive, an export in the line that states
what its numbers mean. The one export that is numbers alone, ComfyUI's, is known by its layout: one line of falling plain
decimals that ends in 0.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import WRITE_BITS, may_be_made, regular, tidy, write_bytes
from sigmatune.support.run_folder import is_run_folder

SAYS = {
    "plan": "plan file",
    "rule": "rule file",
    "report": "report",
    "samples": "file of samples",
    "evaluation": "evaluation",
    "reference": "file of statistics",
    "leaderboard": "leaderboard",
    "schedule": "schedule",
    "spectrum": "spectrum",
    "analysis": "analysis",
    "export": "export",
    "demo": "demo image",
    "conformance": "file of cases",
    "spectra": "file of spectra",
    "error-table": "error table",
}
"""The name of each kind of file."""

_HEAD, _TAIL = 65_536, 256
_KIND = b"sigmatune/(" + "|".join(SAYS).encode() + b")"
_MARKS = (
    re.compile(rb'\A\s*\{\s*"format"\s*:\s*"' + _KIND + rb'"'),
    re.compile(rb'\A<!doctype html>.{0,1000}?<meta name="generator" content="' + _KIND + rb'">', re.DOTALL),
    re.compile(rb"\A\x89PNG\r\n\x1a\n.{0,1000}?Software\x00" + _KIND, re.DOTALL),
    re.compile(rb"\A<\?xml.{0,2000}?<dc:title>" + _KIND + rb"</dc:title>", re.DOTALL),
)
_EXPORT = re.compile(rb'\A(# sigmatune export \{|\{\s*("sigmatune export":|"_class_name": "SigmaTuneScheduler"))')
_NUMBERS = re.compile(rb"\d+(\.\d+)?(, \d+(\.\d+)?)*, 0\n")
_ARCHIVE = re.compile(_KIND + rb"\Z")


def check(
    files: Sequence[tuple[Path | None, str]],
    *,
    folders: Sequence[Path] = (),
    homes: Sequence[Path] = (),
    inputs: Iterable[str | Path | None] = (),
    force: bool = False,
) -> None:
    """Refuses outputs that would destroy something, or that cannot be written.

    Args:
        files: The outputs and their kinds, names in ``SAYS``; None is skipped.
        folders: Run folders with unique file names; they need not exist.
        homes: Run folders with common file names, so no input may lie in them.
        inputs: The inputs; empty ones, and names that are not local files, do not count.
        force: Replace foreign and read-only files, and work in foreign folders. An input is never replaced.

    Raises:
        SigmaTuneError: naming the first file or folder that must not or cannot be written.
    """
    given = [(path, kind) for path, kind in files if path is not None]
    read = [place for source in inputs if source and (place := _place(source)).exists()]
    for path, kind in given:
        if str(path) == "-":
            raise SigmaTuneError("outputs must be files, not -; give the name of a file.")
        target = regular(path)
        if not target.parent.is_dir():
            raise SigmaTuneError(
                f"there is no folder {target.parent if path.is_symlink() else path.parent}; make it first."
            )
        _refuse_inputs(path, target, read)
        _refuse_foreign(path, target, kind, force=force)
    for folder in [*folders, *homes]:
        target = Path(os.path.realpath(folder))
        if target.exists() and not target.is_dir():
            raise SigmaTuneError(f"{folder} is a file; give the run folder another name.")
        if folder in folders and target in read:
            raise SigmaTuneError(
                f"{folder} is an input of this command and would also hold its measurements; give another -o, after which that "
                "folder is named, or --run."
            )
        _refuse_inputs(folder, target, read)
        _refuse_foreign_folder(folder, target, force=force)
    for home in homes:
        _refuse_inside(home, read)
    _refuse_twice([*(path for path, _ in given), *folders, *homes])
    for folder in {regular(path).parent for path, _ in given}:
        _try(folder)


def save(path: str | Path, data: str | bytes, kind: str, *, force: bool = False) -> None:
    """Writes a file of a kind, atomically; a file of another kind, or of another program, is not replaced.

    Args:
        path: The file.
        data: Its content; text is written as UTF-8.
        kind: Its kind, a name in ``SAYS``.
        force: Replace whatever regular file is there.

    Raises:
        SigmaTuneError: if the file must not be replaced, or cannot be written.
    """
    refuse_foreign(path, kind, force=force)
    write_bytes(path, data.encode("utf-8") if isinstance(data, str) else data)


def refuse_foreign(path: str | Path, kind: str, *, force: bool = False) -> None:
    """Refuses to replace a file of another kind or of another program; see :func:`save`."""
    _refuse_foreign(Path(path), regular(path), kind, force=force, how="pass force=True")


def _place(source: str | Path) -> Path:
    """The resolved path of an input that is a local file or folder: links followed, ~ expanded."""
    try:
        return Path(os.path.realpath(Path(source).expanduser()))
    except (RuntimeError, ValueError):  # there is no such user
        return Path(source)


def _refuse_inputs(path: Path, target: Path, read: Sequence[Path]) -> None:
    for source in read:
        if target == source or (target.exists() and target.samefile(source)):
            raise SigmaTuneError(f"{path} is an input of this command, which it never overwrites; give another name.")
        if source.is_dir() and any(_same(parent, source) for parent in target.parents):
            raise SigmaTuneError(f"{path} lies in {source}, which this command reads; write it somewhere else.")


def _refuse_inside(home: Path, read: Sequence[Path]) -> None:
    for source in read:
        if any(_same(parent, Path(os.path.realpath(home))) for parent in source.parents):
            raise SigmaTuneError(
                f"{source} is an input and lies in {home}, where this command writes; give another folder."
            )


def _same(one: Path, other: Path) -> bool:
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def _refuse_foreign(path: Path, target: Path, kind: str, *, force: bool, how: str = "--force") -> None:
    if not target.exists() or force:
        return
    if not stat.S_IMODE(target.stat().st_mode) & WRITE_BITS or not os.access(target, os.W_OK):
        raise SigmaTuneError(f"{path} is read-only; give another name, or {how} to replace it.")
    there = kind_of(target)
    if target.stat().st_size and there != kind:
        also = f"; it is a {SAYS[there]}" if there in SAYS else ""
        raise SigmaTuneError(
            f"{path} exists and is no {SAYS[kind]} that SigmaTune wrote{also}; give another name, or {how} to replace it."
        )


def _refuse_foreign_folder(folder: Path, target: Path, *, force: bool) -> None:
    if not force and target.exists() and any(target.iterdir()) and not is_run_folder(target):
        raise SigmaTuneError(
            f"{folder} holds files and is not a run folder of SigmaTune's; give another folder, or --force to work in "
            "it."
        )


def _refuse_twice(paths: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        place = os.path.realpath(path)
        if place in seen:
            raise SigmaTuneError(f"two outputs of this command cannot both be {path}; give one of them another name.")
        seen[place] = path


def _try(folder: Path) -> None:
    tidy(folder)
    try:
        may_be_made(folder)
    except OSError as error:
        raise SigmaTuneError(f"cannot write into the folder {folder}: {error.strerror or error}.") from None


def kind_of(path: Path) -> str | None:
    """The kind of a file that SigmaTune wrote, such as ``"plan"``; None for any other, and for unreadable files."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(max(path.stat().st_size - _TAIL, 0))
            tail = file.read(_TAIL)
    except OSError:
        return None
    if head[:4] == b"PK\x03\x04":
        match = _ARCHIVE.search(tail)
        return match[1].decode() if match else None
    for mark in _MARKS:
        if match := mark.search(head):
            return match[1].decode()
    return "export" if _EXPORT.search(head) or _only_levels(head) else None


def _only_levels(text: bytes) -> bool:
    """Whether a text is a list of levels and nothing else, as ``export --to comfyui`` writes it."""
    if not _NUMBERS.fullmatch(text):
        return False
    levels = [float(number) for number in text.split(b",")]
    return all(level > following for level, following in pairwise(levels))


def archive(data: bytes, kind: str) -> bytes:
    """The bytes of an .npz with a comment that states its kind; its arrays are unchanged."""
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as opened:
        opened.comment = f"sigmatune/{kind}".encode()
    return buffer.getvalue()


def picture_metadata(kind: str, ending: str) -> Mapping[str, str | None]:
    """The ``metadata=`` of a matplotlib figure: its kind, and nothing that depends on the date."""
    return {"Title": f"sigmatune/{kind}", "Date": None} if ending == "svg" else {"Software": f"sigmatune/{kind}"}


__all__ = ["SAYS", "archive", "check", "kind_of", "picture_metadata", "refuse_foreign", "save"]
