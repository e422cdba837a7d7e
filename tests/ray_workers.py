"""Workers of Ray that cannot start: their processes import this file."""

from __future__ import annotations

import os

import ray

from sigmatune.support.engine.actor import Actor


class Stillborn(Actor):
    """A worker whose process ends as it starts."""

    def __init__(self, threads, *, accelerated=False):
        os._exit(1)


class Local(Actor):
    """A worker that starts on the first node alone."""

    def __init__(self, threads, *, accelerated=False):
        if ray.util.get_node_ip_address() != "127.0.0.5":
            os._exit(1)
        super().__init__(threads, accelerated=accelerated)
