"""Where a Ray cluster is, and whether anything listens there: Ray itself would try a dead address for minutes."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from importlib.util import find_spec
from pathlib import Path

from sigmatune.support.errors import SigmaTuneError, reason

WAIT = 10.0
"""Seconds within which a cluster must accept a connection."""


def check_listening(address: str | None) -> None:
    """Refuses an address at which nothing listens.

    Args:
        address: ``ray://host:10001``; None for ``RAY_ADDRESS``, else the cluster that Ray has last started on this machine.

    Raises:
        SigmaTuneError: in one sentence with the remedy.
    """
    stated, file = address or os.environ.get("RAY_ADDRESS", ""), _file()
    try:
        left = "" if stated else file.read_text(encoding="utf-8").strip()
    except OSError:
        left = ""  # none was started: Ray starts one
    place = re.fullmatch(r"(?:ray://)?\[?([^/\]]+)\]?:(\d+)", stated or left)
    if place is None:  # such as local and auto, which Ray resolves
        return
    try:
        socket.create_connection((place[1], int(place[2])), timeout=WAIT).close()
    except (OSError, OverflowError) as error:
        if left:
            raise SigmaTuneError(
                f"the Ray cluster of this machine, {left}, was killed and no longer answers; delete {file} to start a new one."
            ) from None
        raise SigmaTuneError(f"there is no Ray cluster at {stated}: {reason(error)}.") from None


def check_client(address: str | None) -> None:
    """Refuses an address ``ray://`` where Ray's client lacks what it needs, which Ray alone does not install.

    Raises:
        SigmaTuneError: in one sentence with the remedy.
    """
    stated = address or os.environ.get("RAY_ADDRESS", "")
    if stated.startswith("ray://") and find_spec("grpc") is None:
        raise SigmaTuneError(f"{stated} needs Ray's client and its package grpcio; pip install 'sigmatune[ray]'.")


def unreachable(address: str | None, error: BaseException) -> str:
    """The sentence for a cluster that Ray could not join.

    Args:
        address: As it was given; None for ``RAY_ADDRESS`` or this machine's.
        error: Ray's error; an aborted connection if the cluster answers and has no process for the client.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "here"
    where = where if where == "here" else f"at {where}"
    if isinstance(error, ConnectionAbortedError):
        return (
            f"the Ray cluster {where} answers and could not start a process for this client; try again, or look at "
            "ray_client_server*.err among its logs."
        )
    return f"there is no Ray cluster {where}: {reason(error)}."


def _file() -> Path:
    """Where Ray notes the address of the cluster that it has started last."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
