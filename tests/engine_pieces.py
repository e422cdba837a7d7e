"""What the engines' tests run: a model by its import path, pieces that say where they ran, and an engine without processes.

Every worker imports this file, so it leaves torch to those that load a model.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

from sigmatune.support.engine import Engine
from sigmatune.support.errors import SigmaTuneError


class Counted(Engine):
    """Two workers that pass what a process elsewhere would receive and return, the last piece first, and count the bytes."""

    workers = 2

    def __init__(self):
        self.pieces = self.sent = self.received = 0

    def run(self, function, held, pieces, *, at_once=1, tick=None):
        results = {}
        for i in reversed(range(len(pieces))):
            sent = pickle.dumps(pieces[i])
            received = pickle.dumps(function(*(one.here for one in held), pickle.loads(sent), lambda units: None))
            self.pieces, self.sent, self.received = (
                self.pieces + 1,
                self.sent + len(sent),
                self.received + len(received),
            )
            results[i] = pickle.loads(received)
        yield from (results[i] for i in sorted(results))

    def crew(self, *, accelerated):
        return self.workers, 0 if accelerated else 1

    def abreast(self, parts, worker=None):
        return nullcontext(map)


def shrunk(x, sigma):
    """A denoiser of Gaussian data."""
    return x / (1 + sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2)


def two_modes(x, sigma):
    """A denoiser of pixels from 0.5 N(-1, 0.01) + 0.5 N(1, 0.01), each on its own."""
    square = sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2
    return (0.01 * x + square * (x / (0.01 + square)).tanh()) / (0.01 + square)


def offset():
    return 100


def missing():
    raise SigmaTuneError("there is no folder /nowhere.")


def square(offset, i, tick):
    tick(2)
    return offset + i * i


def warned(i, tick):
    warnings.warn(f"piece {i} is small", stacklevel=1)
    return i


def last_word(i, tick):
    """Ends the process that works on it."""
    os._exit(1)


def refused(i, tick):
    raise SigmaTuneError(f"piece {i} holds NaN.")


LOADS = []


def counted():
    """Counts how often this process loads something."""
    LOADS.append(None)


def placed(held, i, tick):
    """Where a piece runs, on which accelerators and threads, and how often its process has loaded what is held."""
    import ray

    time.sleep(0.3)  # so that every worker gets some
    about = ray.get_runtime_context()
    resources = {kind: about.get_assigned_resources().get(kind, 0) for kind in ("CPU", "GPU")}
    return ray.util.get_node_ip_address(), os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid(), resources, len(LOADS)


def killed_once(piece, tick):
    """A piece whose process is killed the first time that it is worked on."""
    i, folder = piece
    mark = Path(folder) / str(i)
    if i % 3 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return i


def from_disk():
    """Bytes that this process has read from a disk, not from the system's cache."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def loaded_from_disk(folder):
    """The bytes that loading a model's folder reads from a disk, everything that does the loading being imported before."""
    import sigmatune as st

    st.load("digits")
    before = from_disk()
    st.load(folder)
    return from_disk() - before


def reported(held, i, tick):
    time.sleep(0.3)
    return os.getpid(), held
