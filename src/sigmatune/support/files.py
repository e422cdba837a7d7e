"""Atomic writes: a reader sees the old file or the new file, never a part.

A file is written under a temporary name beside its place, ``.sigmatune-`` and 16 hexadecimal digits, and renamed when
whole. While it is written it is locked, and the kernel releases the lock when its process dies; so the remains of a
killed process can be distinguished from those of a living process, and :func:`tidy` removes the former.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sigmatune.support.errors import SigmaTuneError, reason

try:
    import fcntl
except ImportError:  # not on every system; then nothing is ever tidied away
    fcntl = None  # type: ignore[assignment]

PREFIX = ".sigmatune-"
UNFINISHED = re.compile(re.escape(PREFIX) + "[0-9a-f]{16}")
WRITE_BITS = 0o222
"""A file without any of these bits is read-only, even for a superuser."""

_tidied: set[Path] = set()

logger = logging.getLogger(__name__)


after_write: list[Callable[[Path], None]] = []
"""Called with every file that :func:`write_bytes` has put in its place."""


def write_bytes(path: str | Path, data: bytes, *, level: int = logging.INFO, report: bool = True) -> None:
    """Writes a file atomically: under another name beside it, flushed to disk, then renamed.

    Links are followed; a replaced file keeps its mode and, where the system allows it, its owner; a new file gets the
    mode that the umask leaves.

    Args:
        path: The file.
        data: Its content.
        level: The log level; DEBUG for the many files of a store or a run folder.
        report: Calls :data:`after_write`; False for a file that came from where these would send it.

    Raises:
        SigmaTuneError: if the folder does not exist or cannot be written to, or something that is not a regular file has this
            name; nothing is left behind.
    """
    target = regular(path)
    if target.parent not in _tidied:
        _tidied.add(target.parent)
        tidy(target.parent)
    try:
        with _unfinished(target) as (temporary, handle):
            with os.fdopen(handle, "wb", closefd=False) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        logger.log(level, "wrote %s, %s bytes", path, f"{len(data):,}")
    except OSError as error:
        raise SigmaTuneError(f"cannot write {path}: {reason(error)}.") from None
    for call in after_write if report else ():
        call(target)


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 text file atomically; see :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def make_folder(folder: Path) -> Path:
    """Makes a folder, and those that it lies in, unless it is there.

    Raises:
        SigmaTuneError: if it cannot be made, or is not a folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SigmaTuneError(f"cannot make the folder {folder}: {reason(error)}; choose another place.") from None
    return folder


def regular(path: str | Path) -> Path:
    """The file behind a name, links followed, whether it exists or not.

    Raises:
        SigmaTuneError: if something else has the name: a folder, a device, a pipe, or this program's own output.
    """
    try:
        status = Path(path).stat()  # for a pipe or a deleted file the resolved name does not exist
    except (FileNotFoundError, NotADirectoryError):
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise SigmaTuneError(f"cannot write {path}: {reason(error)}.") from None
    if stat.S_ISDIR(status.st_mode):
        raise SigmaTuneError(f"{path} is a folder; give the name of a file.")
    if not stat.S_ISREG(status.st_mode) or _is_stream(status):
        raise SigmaTuneError(
            f"{path} is not a regular file; give the name of a file, or leave it out and print with --json."
        )
    return Path(os.path.realpath(path))


def _is_stream(status: os.stat_result) -> bool:
    """Whether a file is where standard output or standard error go."""
    for stream in (1, 2):
        with suppress(OSError):
            if os.path.samestat(status, os.fstat(stream)):
                return True
    return False


def may_be_made(folder: Path) -> None:
    """Makes a file in a folder and removes it.

    Raises:
        OSError: if that cannot be done: the one question to which permissions alone give no answer.
    """
    with _unfinished(folder / PREFIX):
        pass


@contextmanager
def _unfinished(target: Path) -> Iterator[tuple[Path, int]]:
    """A new file beside the target, locked, with the mode that the target is to have; gone at the end unless renamed."""
    while True:
        path = target.with_name(PREFIX + secrets.token_hex(8))
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if target.exists() else 0o666)
        if lock(handle):
            break
        os.close(handle)  # another tidy was quicker than the lock
    try:
        _like(path, target)
        yield path, handle
    finally:
        os.close(handle)
        path.unlink(missing_ok=True)


def _like(path: Path, target: Path) -> None:
    """Gives a new file the mode and the owner of an old one, if there is one."""
    try:
        old = target.stat()
    except OSError:
        return
    if (old.st_uid, old.st_gid) != (path.stat().st_uid, path.stat().st_gid):
        with suppress(OSError):  # only the superuser may give files away
            os.chown(path, old.st_uid, old.st_gid)
    path.chmod(stat.S_IMODE(old.st_mode))


def lock(handle: int) -> bool:
    """Locks an unfinished file until its process closes it or dies; False if it was tidied away before."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, where nothing is tidied away
        return True
    return os.fstat(handle).st_nlink > 0


def tidy(folder: Path) -> None:
    """Removes the unfinished files and folders that killed processes left in a folder; those of living ones stay."""
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if UNFINISHED.fullmatch(path.name)]:
            with suppress(OSError):
                _remove_left(path)


def _remove_left(path: Path) -> None:
    if fcntl is None:
        return
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(path)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
