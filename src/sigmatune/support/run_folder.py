"""A run folder belongs to one command at a time, and stays when the command fails.

The lock is filelock's, which the kernel releases when its process dies; a file beside it names the holder.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sigmatune.support import remote_folder
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import may_be_made, tidy

LOCK, HOLDER = ".sigmatune.lock", ".sigmatune.holder"
_held: set[str] = set()
"""The folders that this process holds."""

_OURS = re.compile(r"checkpoint\.safetensors|finetune\.json|[0-9a-f]{32}(\.np[yz])?")


def is_run_folder(folder: Path) -> bool:
    """Whether SigmaTune has worked in a folder, judged by the names in it."""
    return any(path.name == LOCK or _OURS.fullmatch(path.name) for path in folder.iterdir())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a run folder, created if missing; removes it again if it stays empty.

    Of several processes of one training (``accelerate launch``), the first holds it for all.

    Raises:
        SigmaTuneError: before any work, if another process holds it, or it cannot be written to.
    """
    place = os.path.realpath(folder)
    if os.environ.get("RANK", "0") != "0" or place in _held:
        yield
        return
    from filelock import FileLock, Timeout

    if folder.exists() and not folder.is_dir():
        raise SigmaTuneError(f"{folder} is a file; give the run folder another name.")
    new = _made(folder)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        may_be_made(folder)
        lock.acquire()
    except Timeout:
        raise SigmaTuneError(
            f"{folder} is in use by {_holder(folder)}; wait for it, or give another run folder."
        ) from None
    except OSError as error:
        _unmade(folder, new)
        raise SigmaTuneError(f"cannot write into the run folder {folder}: {error.strerror or error}.") from None
    try:
        _held.add(place)
        _sign(folder)
        for path, _, _ in os.walk(folder):
            tidy(Path(path))
        with remote_folder.owned(folder):
            yield
    finally:
        _held.discard(place)
        with suppress(OSError):
            (folder / HOLDER).unlink()
        lock.release()
        _unmade(folder, new)


def _made(folder: Path) -> list[Path]:
    """Makes a folder and those above it; returns the ones that were missing, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SigmaTuneError(f"cannot make the folder {folder}: {error.strerror or error}.") from None
    return missing


def _unmade(folder: Path, new: list[Path]) -> None:
    """Removes folders that were created but stayed empty."""
    with suppress(OSError):
        if new and {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            for path in new:
                path.rmdir()


def _sign(folder: Path) -> None:
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with suppress(OSError):  # a full disk: the lock still holds
        (folder / HOLDER).write_text(json.dumps(about), encoding="utf-8")


def _holder(folder: Path) -> str:
    """Describes the holder of a folder."""
    for _ in range(10):  # it may not have written its name yet
        with suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
            host, since = ("".join(filter(str.isprintable, str(about[name])))[:64] for name in ("host", "since"))
            return f"process {int(about['pid'])} on {host} since {since}"
        time.sleep(0.05)
    return "another process"
