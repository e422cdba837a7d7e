"""Run folders on object storage: a local mirror, and every file goes to the store as soon as it is whole.

A run folder holds small files that never change once they are whole, each with its digest, so a store needs no more than to
put and to get an object. ``s3://bucket/run`` (or any address that fsspec knows) has a mirror in the cache folder. A run begins
by getting what the mirror lacks, and puts each file that it writes; a run on another machine resumes from there. Images are put
but not fetched again: figures need the features alone, and sampling them again gives the same bits.

An object store has no locks. The mirror has one, which holds on its machine; across machines a marker in the store names the
run's owner, and a second owner is warned. Two runs on one folder do the same work twice and harm nothing, because both write
the same bytes under the same names.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sigmatune.support import files
from sigmatune.support.errors import SigmaTuneError, reason

logger = logging.getLogger(__name__)

OWNER = ".sigmatune.owner"
SKIPPED = "pictures"
"""The inner folder of images, which are not fetched."""

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}([^/].*)")


@dataclass(frozen=True)
class _Store:
    """Where a mirror's files go."""

    url: str
    system: Any
    root: str


_stores: dict[Path, _Store] = {}
"""By mirror."""


def local(folder: Path) -> Path:
    """The local folder for a run folder: its mirror if it is on object storage, else itself; nothing is read or written yet.

    Args:
        folder: A path, or an address such as ``s3://bucket/run``, whose two slashes a path may have made one.

    Raises:
        SigmaTuneError: if the address is of no known kind, or its library is not installed.
    """
    match = _ADDRESS.fullmatch(folder.as_posix())
    if match is None:
        return folder
    url = f"{match[1]}://{match[2].rstrip('/')}"
    mirror = _cache() / "remote" / hashlib.sha256(url.encode()).hexdigest()[:16] / PurePosixPath(url).name
    if mirror not in _stores:
        from fsspec.core import url_to_fs

        try:
            system, root = url_to_fs(url)
        except ImportError:
            raise SigmaTuneError(f"{url} needs a library; install it by: pip install 'sigmatune[remote]'.") from None
        except ValueError as error:
            raise SigmaTuneError(f"{url} is no address of a run folder: {reason(error)}.") from None
        _stores[mirror] = _Store(url, system, root.rstrip("/"))
    return mirror


def shown(folder: Path) -> str:
    """The name of a run folder for messages: its address, if it has one."""
    return _stores[folder].url if folder in _stores else str(folder)


def fetch(folder: Path) -> None:
    """Gets what a mirror lacks of its store; does nothing for other folders.

    Raises:
        SigmaTuneError: if the store cannot be read.
    """
    store = _stores.get(folder)
    if store is None:
        return
    with _asked(store, "read"):
        store.system.invalidate_cache()
        held = store.system.find(store.root, detail=True) if store.system.exists(store.root) else {}
        for name, about in held.items():
            path = PurePosixPath(name.removeprefix(store.root).lstrip("/"))
            place = folder / path
            if SKIPPED in path.parts or ".." in path.parts or path.name == OWNER:
                continue
            if not place.exists() or place.stat().st_size != about["size"]:
                data = store.system.cat_file(name)
                files.make_folder(place.parent)
                files.write_bytes(place, data, level=logging.DEBUG, report=False)
        logger.info("%s has %d files; its mirror is %s", store.url, len(held), folder)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Fetches a run folder and marks its owner in the store meanwhile; does nothing for folders without a store.

    Raises:
        SigmaTuneError: if the store cannot be read or written.
    """
    store = _stores.get(folder)
    if store is None:
        yield
        return
    fetch(folder)
    marker = f"{store.root}/{OWNER}"
    with _asked(store, "write to"):
        if store.system.exists(marker):
            _warn(store, store.system.cat_file(marker))
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        store.system.pipe_file(marker, json.dumps(about).encode())
    try:
        yield
    finally:
        with suppress(Exception):
            store.system.rm_file(marker)


def _warn(store: _Store, marker: bytes) -> None:
    """Warns of another owner, unless it is a process of this machine that is gone."""
    try:
        about = json.loads(marker)
        host, pid, since = str(about["host"])[:64], int(about["pid"]), str(about["since"])[:32]
    except (ValueError, KeyError, TypeError):
        return
    if host == socket.gethostname() and not Path(f"/proc/{pid}").exists():
        return
    warnings.warn(
        f"{store.url} is marked as in use by process {pid} on {host} since {since}; an object store has no locks, so if that "
        "process still runs, both do the same work.",
        stacklevel=4,
    )


def _put(path: Path) -> None:
    """Puts a file that is whole into the store of its mirror, if it lies in one."""
    for mirror, store in _stores.items():
        if path.is_relative_to(mirror):
            with _asked(store, "write to"):
                name = f"{store.root}/{path.relative_to(mirror).as_posix()}"
                store.system.makedirs(name.rpartition("/")[0], exist_ok=True)
                store.system.pipe_file(name, path.read_bytes())


files.after_write.append(_put)


@contextmanager
def _asked(store: _Store, what: str) -> Iterator[None]:
    """Turns whatever a store's library raises into one sentence."""
    try:
        yield
    except SigmaTuneError:
        raise
    except Exception as error:  # noqa: BLE001 - every kind of store has kinds of errors of its own
        raise SigmaTuneError(
            f"cannot {what} {store.url}: {reason(error)}; the files so far are in its mirror."
        ) from None


def _cache() -> Path:
    """The cache folder: $SIGMATUNE_CACHE, else sigmatune in $XDG_CACHE_HOME, else in ~/.cache; links followed."""
    chosen = os.environ.get("SIGMATUNE_CACHE")
    home = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sigmatune"
    return Path(os.path.realpath(home))
