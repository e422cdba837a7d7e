"""``sigmatune push``: a plan into a repository of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

import typer


def push(
    plan: Path = typer.Argument(help="Plan file."),
    repository: str = typer.Argument(help="owner/name on the hub; created if it is not there."),
    private: bool = typer.Option(False, "--private", help="Make a new repository private."),
    model: str = typer.Option("", help="Hub id of the model that the plan is for, for the card."),
    message: str = typer.Option("", help="Message of the commit."),
    dry_run: Path | None = typer.Option(None, help="Write the files into this new folder and send nothing."),
) -> None:
    """Share a plan on the Hugging Face hub, with a card that shows its evidence and its levels."""
    from sigmatune.plan import load_plan
    from sigmatune.plan.repository import write
    from sigmatune.support.errors import SigmaTuneError

    loaded = load_plan(plan)
    if dry_run is None:
        print(loaded.push_to_hub(repository, private=private, message=message, model=model))
        return
    try:
        dry_run.mkdir()
    except OSError as error:
        raise SigmaTuneError(f"the folder {dry_run} cannot be made: {error.strerror}.") from None
    write(loaded.repository_files(repository, model), dry_run)
    print(f"written to {dry_run}; nothing was sent")
