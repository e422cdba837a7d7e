"""The engine of a Ray cluster: actors that load once what is held, one per accelerator, or per CPU thread where there is none.

Every actor works on one piece at a time; a second one may lie there (:mod:`sigmatune.support.engine.crew`). A thread here waits
for every piece. Ray places the actors. One that dies with its process or its node is replaced as soon as the cluster has room,
and its pieces are done again by others; results do not depend on this. Small results come back with the reply, large ones
through the object store.

Reference: Ray: A Distributed Framework for Emerging AI Applications (Moritz et al., 2018), https://arxiv.org/abs/1712.05889
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import RLock, Thread
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from sigmatune.support.engine.actor import Actor
from sigmatune.support.engine.base import Engine, Held, Loader, Map, Tick, no_tick
from sigmatune.support.engine.crew import AHEAD, Crew
from sigmatune.support.engine.ray_address import check_client, check_listening, unreachable
from sigmatune.support.errors import SigmaTuneError, reason
from sigmatune.support.imports import import_path
from sigmatune.support.threads import Worker

logger = logging.getLogger(__name__)

TRIES = 4
"""How many workers may be lost on one piece, and how many in a row may fail to start."""


JOINS = 3
"""How often a cluster is asked for a process for the client; Ray's proxy may lose one that has just been started."""


def _join(address: str | None) -> None:
    for again in range(JOINS - 1, -1, -1):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            return
        except ConnectionAbortedError as error:
            if not again:
                raise
            logger.info("the cluster has no process for this client yet, it is asked again: %s", reason(error))


class Ray(Engine):
    """Runs pieces on a Ray cluster.

    Args:
        address: ``ray://host:10001``; None for the cluster of ``RAY_ADDRESS``, one that runs on this machine, or a new one.
        threads: CPU threads of a worker; bits are the same everywhere on one.
        gpus: Accelerators of a worker, or a fraction of one; by default 1 where the model wants one and the cluster has any.
        workers: How many; by default as many as the cluster has room for.

    Raises:
        SigmaTuneError: if the cluster cannot be reached.
    """

    def __init__(
        self, address: str | None = None, *, threads: int = 1, gpus: float | None = None, workers: int | None = None
    ) -> None:
        self.threads, self._gpus, self._wanted, self._began = threads, gpus, workers, not ray.is_initialized()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self._began:
            check_listening(address)
            check_client(address)
            try:
                _join(address)
            except (RayError, OSError, RuntimeError, ValueError, ImportError) as error:
                raise SigmaTuneError(unreachable(address, error)) from None
        self._lock, self._references = RLock(), dict[str, Any]()
        self._crew, self._actors, self._failed = Crew(), set[Any](), 0
        self.gpus = 0.0
        self._pool: ThreadPoolExecutor | None = None
        self._class: Any = None
        self.workers, _ = self.crew(accelerated=False)

    # ----------------------------------------------------------------------------------------------------------- pieces

    def run(
        self,
        function: Callable[..., Any],
        held: Sequence[Held],
        pieces: Sequence[Any],
        *,
        at_once: int = 1,
        tick: Tick = no_tick,
    ) -> Iterator[Any]:
        name, loaders = import_path(function), [one.loader() for one in held]
        assert name is not None  # ours, all at the top of a module
        pool, references = self._started(loaders), [self._put(loader) for loader in loaders]
        crew = self._crew
        crew.expect(len(pieces))
        waiting = deque(pool.submit(self._done, crew, name, references, pieces, i, tick) for i in range(len(pieces)))
        try:
            while waiting:
                yield waiting.popleft().result()
        finally:
            crew.expect(-sum(future.cancel() for future in waiting))

    def crew(self, *, accelerated: bool) -> tuple[int, int]:
        gpus = self._share(accelerated=accelerated)
        return self._fitting(gpus), 0 if gpus else self.threads

    @contextmanager
    def abreast(self, parts: int, worker: Worker | None = None) -> Iterator[Map]:
        import torch  # nothing else here needs it

        threads, most = torch.get_num_threads(), max(self.workers, 2)
        torch.set_num_threads(1)  # as beside one another here
        try:
            with ThreadPoolExecutor(max(min(parts, most), 1)) as pool:
                try:
                    yield pool.map
                except BaseException:
                    self._stop()  # what was under way is wanted no more
                    raise
        finally:
            torch.set_num_threads(threads)

    @property
    def ready(self) -> int:
        """How many workers have started and live."""
        return len(self._crew.pieces)

    def close(self) -> None:
        self._stop()
        if self._began:
            ray.shutdown()

    def _put(self, loader: Loader) -> Any:
        with self._lock:
            if loader.name not in self._references:
                self._references[loader.name] = ray.put(loader)
            return self._references[loader.name]

    def _done(
        self, crew: Crew, function: str, references: Sequence[Any], pieces: Sequence[Any], i: int, tick: Tick
    ) -> Any:
        """The result of a piece, by as many workers as it takes."""
        last, token, losses = "", object(), 0
        for _ in range(AHEAD * TRIES):
            actor: Any = crew.take(token)
            try:  # pieces[i] is asked for now: it may be large
                value, units, said = ray.get(actor.work.remote(function, pieces[i], *references))
            except RayTaskError as error:
                crew.give(actor, token)
                raise error.cause if isinstance(error.cause, Exception) else error from None
            except RayError as error:
                logger.info("a worker was lost, its piece is done again: %s", reason(error))
                news, mine = crew.lost(actor, token)
                last, losses = reason(error), losses + mine
                if news:
                    self._replace(actor)
                if losses == TRIES:
                    break
                crew.expect(1)
            except Exception as error:
                crew.give(actor, token)
                if isinstance(error, ConnectionError):  # of Ray's client; the workers end with the connection
                    raise SigmaTuneError(f"the connection to the Ray cluster was lost: {reason(error)}.") from None
                raise
            else:
                crew.give(actor, token)
                tick(units)
                for text in said:
                    warnings.warn(text, stacklevel=2)
                return value
        raise SigmaTuneError(f"{TRIES} workers were lost on the same piece, perhaps for want of memory: {last}.")

    # ---------------------------------------------------------------------------------------------------------- workers

    def _started(self, loaders: Sequence[Loader]) -> ThreadPoolExecutor:
        """The threads that wait for the actors, which are started now if there are none."""
        with self._lock:
            gpus = self._share(accelerated=any(loader.accelerated for loader in loaders))
            if self._pool is not None and gpus > self.gpus:  # those so far had work without a network only
                self._stop()
            if self._pool is None:
                self.gpus, self.workers = gpus, self._fitting(gpus)
                self._class = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_restarts=0)(Actor)
                self._pool = ThreadPoolExecutor(AHEAD * self.workers)
                logger.info("%d workers on %d nodes of Ray", self.workers, len(ray.nodes()))
                for _ in range(self.workers):
                    self._hire()
            return self._pool

    def _share(self, *, accelerated: bool) -> float:
        """The accelerators of a worker."""
        return (
            self._gpus if self._gpus is not None else float(accelerated and ray.cluster_resources().get("GPU", 0) > 0)
        )

    def _fitting(self, gpus: float) -> int:
        """How many workers with such a share there are; at least 1, for a cluster may grow when work arrives."""

        def room(node: Mapping[str, float]) -> int:
            needs = {"CPU": self.threads, "GPU": gpus}
            return min(int(node.get(kind, 0) / need) for kind, need in needs.items() if need)

        return self._wanted or max(sum(room(node["Resources"]) for node in ray.nodes() if node["Alive"]), 1)

    def _hire(self) -> None:
        actor = self._class.remote(self.threads, accelerated=self.gpus > 0)
        self._actors.add(actor)
        crew = self._crew  # a stopped engine has another

        def arrived(future: Future[Any]) -> None:
            if (error := future.exception()) is None:
                self._failed = 0
                crew.join(actor)
            elif crew is self._crew:  # not on this thread, on which Ray's own answers arrive
                Thread(target=self._absent, args=(actor, error), daemon=True).start()

        actor.ready.remote().future().add_done_callback(arrived)

    def _absent(self, actor: Any, error: BaseException) -> None:
        """A worker could not be started: another one is tried; after some in a row those that there are do without."""
        with self._lock:
            self._failed += 1
        if self._failed < TRIES:
            self._replace(actor)
        elif len(self._actors) > 1:
            logger.warning("a worker cannot be started, one fewer remains: %s", reason(error))
            self._actors.discard(actor)
        else:
            self._crew.end(SigmaTuneError(f"no worker can be started on the Ray cluster: {reason(error)}."))

    def _replace(self, actor: Any) -> None:
        with suppress(RayError, ConnectionError):
            ray.kill(actor)
        with self._lock:
            self._actors.discard(actor)
            stopped = self._pool is None
        if not stopped:
            self._hire()

    def _stop(self) -> None:
        """Ends the workers and what they do; the next piece starts others."""
        with self._lock:
            pool, actors, self._pool = self._pool, list(self._actors), None
            self._crew.end(SigmaTuneError("the engine was stopped."))
            self._crew, self._actors, self._failed, self._references = Crew(), set(), 0, {}
        for actor in actors:
            with suppress(RayError, ConnectionError):
                ray.kill(actor)
        if pool is not None:
            pool.shutdown(cancel_futures=True)
