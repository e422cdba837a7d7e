"""``--shard`` and ``--merge``: one job on several machines that share nothing but, at the end, their run folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigmatune.cli.common import Several
from sigmatune.support import remote_folder
from sigmatune.support.errors import SigmaTuneError

if TYPE_CHECKING:
    from sigmatune.plan.estimate import CostEstimate
    from sigmatune.support.share import Share
    from sigmatune.workflows.sharded import ShardedJob

Shard = Annotated[
    str,
    typer.Option("--shard", help="Do only one of n shares of the work, such as 2/8, into a run folder of its own."),
]
Merge = Annotated[
    list[str],
    typer.Option("--merge", help="Run folders of all shards of the same command; measures them as one run."),
]


class MergeCommand(Several):
    """``--merge a b c`` is ``--merge a --merge b --merge c``."""

    texts = ("--merge",)


@dataclass(frozen=True)
class Division:
    """What a command does of a job.

    Attributes:
        share: Only this share; None for all.
        folders: The shares to join; none in an ordinary run.
    """

    share: Share | None
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, shard: str, merge: list[str]) -> Division:
        """Reads the options.

        Raises:
            SigmaTuneError: for a share that is none, or both options.
        """
        from sigmatune.support import share

        if shard and merge:
            raise SigmaTuneError("--shard does one share and --merge joins all; give one of them.")
        folders = tuple(remote_folder.local(Path(name)) for name in merge)
        for folder in folders:
            if remote_folder.shown(folder) == str(folder):  # one on object storage is fetched when the work begins
                share.check(folder)
        return cls(share.Share.parse(shard) if shard else None, folders)

    def __bool__(self) -> bool:
        return self.share is not None or bool(self.folders)

    def folder(self, run: Path) -> Path:
        """The command's run folder; of one on object storage, the mirror."""
        return remote_folder.local(run if self.share is None else self.share.folder(run))

    def outputs(self, *files: tuple[Path | None, str]) -> list[tuple[Path | None, str]]:
        """The files that the command writes: a share writes none."""
        return [] if self.share is not None else list(files)

    def estimate(self, whole: CostEstimate) -> CostEstimate:
        """The cost of the command: about one n-th for a share, and the figures alone for what joins them."""
        if self.folders:
            return replace(whole, evaluations=dict.fromkeys(whole.evaluations, 0))
        of = 1 if self.share is None else self.share.of
        parts = {name: -(-number // of) for name, number in whole.evaluations.items()}
        return replace(whole, evaluations=parts, besides=whole.besides / of)

    def divided(self, job: Callable[[], ShardedJob], run: Path, *, as_json: bool, **kept: Any) -> bool:
        """Does and reports its share, and says whether that is all; or joins the shares, if there are any to join.

        Args:
            job: The work of all shards.
            run: The command's run folder.
            as_json: Reports as JSON.
            kept: As for :meth:`sigmatune.workflows.sharded.ShardedJob.run`.
        """
        for folder in self.folders:
            remote_folder.fetch(folder)
        if self.folders:
            job().merge(self.folders, run)
        if self.share is None:
            return False
        job().run(self.share, run, **kept)
        if as_json:
            print(json.dumps({"shard": str(self.share), "run": remote_folder.shown(run)}))
        else:
            done = f"shard {self.share} is in {remote_folder.shown(run)}"
            print(f"{done}; after all of them, run the same command with --merge and their folders")
        return True
