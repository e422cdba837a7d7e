"""Reading untrusted files: size and kind of a file are checked before its first byte is read.

Regular files only: a device, a pipe or a socket has no size and may never end. A text is read up to a stated number of
bytes, as UTF-8. JSON follows the standard (RFC 8259), slightly more strictly: no duplicate keys, no number beyond
float64, no NaN, and lists and objects nested at most :data:`DEEPEST` deep. Limits on arrays count their unpacked size.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

from sigmatune.support.errors import SigmaTuneError, reason, shown

MIB = 2**20
TEXT = 64 * MIB
"""Bytes of a JSON file or a list of levels: a plan with a schedule for each of ten thousand rows has some forty MiB."""

WORDS = 16 * MIB
"""Bytes of a file of prompts or labels."""

RECIPE = MIB // 4
"""Bytes of a YAML file, whose reader is slow."""

ARRAYS = 2**30
"""Most unpacked bytes of a file of statistics or features."""

SEAL = hashlib.sha256().digest_size

DEEPEST = 64
"""Deepest nesting of lists and objects."""

MOST_VALUES = 100_000
"""Most lists and mappings in a YAML file, counted at every reference."""

KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def regular(path: str | Path, *, most: int | None = None) -> Path:
    """Returns the path of a regular file of at most so many bytes; links are followed.

    Args:
        path: The file.
        most: Its size in bytes; None for any.

    Raises:
        SigmaTuneError: if it does not exist, is not a regular file, or is larger.
    """
    path = Path(path)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise SigmaTuneError(f"cannot read {path}: {reason(error)}.") from None
    if not stat.S_ISREG(status.st_mode):
        what = next((name for test, name in KINDS.items() if test(status.st_mode)), "no regular file")
        raise SigmaTuneError(f"cannot read {path}: it is {what}; pass a regular file.")
    if most is not None and status.st_size > most:
        raise SigmaTuneError(f"cannot read {path}: it has {size(status.st_size)}, and at most {size(most)} are read.")
    return path


def data_of(path: str | Path, *, most: int = TEXT) -> bytes:
    """The bytes of a regular file.

    Raises:
        SigmaTuneError: as :func:`regular`, or if it cannot be read.
    """
    try:
        with regular(path, most=most).open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise SigmaTuneError(f"cannot read {path}: {reason(error)}.") from None
    if len(data) > most:  # files of /proc state no size
        raise SigmaTuneError(f"cannot read {path}: at most {size(most)} are read.")
    return data


def text_of(path: str | Path, *, kind: str, most: int = TEXT) -> str:
    """The text of a regular file.

    Args:
        path: The file.
        kind: The name of such a file in messages, such as ``"plan"``.
        most: Bytes that are read at most.

    Raises:
        SigmaTuneError: as :func:`data_of`, or if it is not UTF-8.
    """
    try:
        return data_of(path, most=most).decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte {error.start} is not UTF-8"
        raise SigmaTuneError(
            f"{path} is not a valid {kind} file: it is not text ({where}); save it as UTF-8."
        ) from None


def json_of(path: str | Path, *, kind: str, most: int = TEXT, finite: bool = True) -> Any:
    """Parses a JSON file.

    Raises:
        SigmaTuneError: naming the file, as :func:`text_of` and :func:`parsed`.
    """
    text = text_of(path, kind=kind, most=most)
    try:
        return parsed(text, finite=finite)
    except SigmaTuneError as error:
        raise SigmaTuneError(f"{path}: {error}") from None


def parsed(text: str, *, finite: bool = True) -> Any:
    """Parses a JSON text.

    Args:
        text: The text.
        finite: Refuse NaN and Infinity, which JSON does not have, but our own logs write.

    Raises:
        SigmaTuneError: with line and column, for text that is not JSON or breaks the stricter rules here.
    """
    given: dict[str, Any] = {"parse_constant": _no_constant, "parse_float": _finite} if finite else {}
    try:
        raw = json.loads(text, object_pairs_hook=_distinct, **given)
    except json.JSONDecodeError as error:
        what = "it starts with a byte-order mark" if text.startswith("\ufeff") else error.msg.lower()
        at = f"line {error.lineno}, column {error.colno}"
        raise SigmaTuneError(f"this is not JSON ({what}: {at}); fix it, or write the file again.") from None
    except RecursionError:
        too_deep()
    except SigmaTuneError:
        raise
    except ValueError:  # Python's own limit on the digits of a whole number
        raise SigmaTuneError("this holds a whole number of thousands of digits; write a smaller one.") from None
    weighed(raw)
    if re.search(r"\\u[dD][89abAB]", text):
        _paired(raw)
    return raw


def sealed(data: bytes) -> bytes:
    """Bytes followed by their digest, for intermediate results; readers of arrays ignore the tail."""
    return data + hashlib.sha256(data).digest()


def unsealed(path: Path, *, most: int = 2 * ARRAYS) -> bytes | None:
    """The bytes of an intermediate result; None if it is missing, incomplete, or changed, and has to be recomputed."""
    try:
        data = data_of(path, most=most)
    except SigmaTuneError:
        return None
    body, seal = data[:-SEAL], data[-SEAL:]
    return body if hashlib.sha256(body).digest() == seal else None


def weighed(raw: Any, *, most: int | None = None) -> None:
    """Refuses plain values that are nested too deeply, or hold too many lists and mappings.

    Raises:
        SigmaTuneError: in these cases.
    """
    layer, count = [raw], 0
    for _ in range(DEEPEST + 1):
        layer = [item for one in layer for item in _inside(one) if isinstance(item, dict | list)]
        count += len(layer)
        if most is not None and count > most:
            raise SigmaTuneError(f"this holds more than {most:,} lists and mappings, repeats counted; write fewer.")
        if not layer:
            return
    too_deep()


def shallow(text: str) -> None:
    """Refuses a text that opens more brackets inside each other than values may be nested, before a slow parser meets it.

    Raises:
        SigmaTuneError: in this case.
    """
    depth = 0
    for bracket in re.findall(r"[][{}]", text):
        depth = depth + 1 if bracket in "[{" else max(depth - 1, 0)
        if depth > DEEPEST + 2:
            too_deep()


def fits(needed: int, what: str, cure: str) -> None:
    """Refuses work that does not fit into memory, before it starts.

    Args:
        needed: Bytes.
        what: The work.
        cure: The alternative.

    Raises:
        SigmaTuneError: if less is free.
    """
    free = free_memory()
    if needed > free:
        raise SigmaTuneError(f"{what} needs {size(needed)} of memory and {size(free)} are free; {cure}.")


def free_memory() -> int:
    """Bytes of memory that this process may still take: limited by the machine and by ``ulimit -v``."""
    free = _of_machine()
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
            free = min(free, max(limit - taken, 0))
    except (ImportError, OSError, ValueError):  # not on this system
        pass
    return free


def size(count: int) -> str:
    """A number of bytes for people."""
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (MIB, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count} bytes"


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**62  # unknown: rely on the system's own refusal


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise SigmaTuneError(f"this holds the key {shown(twice)} twice in one object; keep one of them.")
    return mapping


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise SigmaTuneError(f"this holds the number {shown(digits)}, which is beyond float64; write a smaller one.")
    return value


def _no_constant(name: str) -> NoReturn:
    raise SigmaTuneError(f"this holds {name}, which JSON does not have; write a finite number.")


def _paired(raw: Any) -> None:
    try:
        json.dumps(raw, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise SigmaTuneError(
            "this holds half of a surrogate pair, which is not a character; write the text again."
        ) from None


def too_deep() -> NoReturn:
    """Refuses what is nested deeper than :data:`DEEPEST`.

    Raises:
        SigmaTuneError: always.
    """
    raise SigmaTuneError(f"this nests lists and objects deeper than {DEEPEST}; write the file again.") from None
