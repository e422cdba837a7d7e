"""Folders that are replaced whole or not at all, whenever the process is killed.

The new folder is filled under a name of ours beside its place (:mod:`sigmatune.files`). Where the system can exchange two names
in one step, that is how it takes the place of an old one. Elsewhere there are two steps, and in the moment between them the
name is free: so the new folder is first given a name that says that it is whole and whose place it takes, and whoever reads
or writes next completes what a killed process began (:func:`recover`).
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sigmatune.errors import SigmaTuneError, reason
from sigmatune.files import PREFIX, UNFINISHED, lock, remove, tidy

logger = logging.getLogger(__name__)

Ignore = Callable[[str, Sequence[str]], set[str]]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yields a folder to be filled that becomes the target, whole or not at all; an older target is replaced as a whole.

    A link is followed; an older folder's mode is kept, and what is new has the mode that the umask leaves.

    Raises:
        SigmaTuneError: if it cannot be written, whatever the kind of error; the older one is still there.
    """
    shown, target = target, Path(os.path.realpath(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        remove(_ready(target))
        tidy(target.parent)
        with unfinished(target.parent) as new:
            yield new
            _finish(new, target)
            _put(new, target)
            logger.info("wrote the folder %s", shown)
    except SigmaTuneError:
        raise
    except Exception as error:  # noqa: BLE001 - diffusers and safetensors raise their own kinds for a full disk
        file = getattr(error, "filename", None)
        of = f" ({Path(file).name})" if isinstance(file, str) else ""
        raise SigmaTuneError(f"cannot write {shown}: {reason(error)}{of}.") from None


def recover(target: Path) -> None:
    """Completes a replacement in whose middle a process was killed: the new folder gets its name if nothing has it."""
    if not os.path.lexists(target):
        with suppress(OSError):
            _ready(target).rename(target)


def copy(source: Path, new: Path, *, ignore: Ignore | None = None) -> None:
    """Copies what is in a folder into another that exists, with the modes of new files, so that all of it can be replaced.

    Args:
        source: The folder, which may be read-only; links in it are followed.
        new: Where to.
        ignore: Chooses what to leave out, as for :func:`shutil.copytree`.
    """
    left_out = set() if ignore is None else ignore(str(source), [path.name for path in source.iterdir()])
    for path in sorted(source.iterdir()):
        if path.name in left_out or UNFINISHED.fullmatch(path.name):
            continue
        if path.is_dir():
            (new / path.name).mkdir()
            copy(path, new / path.name, ignore=ignore)
        else:
            try:
                shutil.copyfile(path, new / path.name)
            except OSError as error:
                raise SigmaTuneError(f"{path} cannot be copied: {reason(error)}.") from None


def _ready(target: Path) -> Path:
    """The name of a whole folder that waits for the target's; as long as any name may be, so it holds a digest."""
    return target.with_name(f"{PREFIX}ready-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}")


@contextmanager
def unfinished(parent: Path) -> Iterator[Path]:
    """A new folder inside another one, locked, gone at the end unless renamed; what a kill leaves of it is tidied away."""
    while True:
        new = parent / f"{PREFIX}{secrets.token_hex(8)}"
        new.mkdir()
        handle = os.open(new, os.O_RDONLY)
        if lock(handle):
            break
        os.close(handle)
    try:
        yield new
    finally:
        os.close(handle)
        remove(new)  # or, after an exchange, what was there before


def _finish(new: Path, target: Path) -> None:
    """Gives everything the modes that it should have, and flushes it to disk."""
    free = stat.S_IMODE(new.stat().st_mode)
    for file in new.rglob("*"):
        if file.suffix == ".safetensors":  # which are written for their owner alone
            file.chmod(free & 0o666)
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    if target.is_dir():
        new.chmod(stat.S_IMODE(target.stat().st_mode))


def _put(new: Path, target: Path) -> None:
    """Gives a whole folder its name."""
    if not os.path.lexists(target):
        new.rename(target)
    elif not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    elif not exchange(new, target):
        _put_in_steps(new, target)


def _put_in_steps(new: Path, target: Path) -> None:
    ready, old = _ready(target), target.with_name(f"{PREFIX}{secrets.token_hex(8)}")
    new.rename(ready)
    try:
        target.rename(old)
    except OSError:
        remove(ready)
        raise
    recover(target)  # a reader may have been quicker
    remove(old)


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two names in one step; False where the system or the file system cannot.

    Raises:
        OSError: if it can but may not.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNABLE:
        return False
    raise OSError(code, os.strerror(code))
