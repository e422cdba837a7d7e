"""Plans on the Hugging Face hub: one repository per plan, with a card that shows what is known about it.

A repository holds ``plan.json``, the file that :meth:`Plan.save <sigmatune.plan.plan.Plan.save>` writes; ``README.md``, the model card;
and ``levels.svg``, the levels as a drawing. Nothing else is read when a plan is loaded: the plan file is checked like any file of a
stranger (``SECURITY.md``).
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sigmatune.plan.model_card import card_of, drawing
from sigmatune.support.errors import SigmaTuneError, reason

if TYPE_CHECKING:
    from sigmatune.plan.plan import Plan

HUB_ID = r"[\w-][\w.-]*/[\w-][\w.-]*"
PLAN, CARD, DRAWING = "plan.json", "README.md", "levels.svg"


def is_hub_id(source: object) -> bool:
    """Whether a text names a repository, owner/name, and no file here."""
    return isinstance(source, str) and re.fullmatch(HUB_ID, source) is not None and not Path(source).exists()


def fetch(repository: str, revision: str | None = None) -> Path:
    """Downloads a repository's plan file.

    Args:
        repository: ``owner/name``.
        revision: Branch, tag or commit.

    Raises:
        SigmaTuneError: if the hub does not provide it.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, PLAN, revision=revision))
    except Exception as error:  # noqa: BLE001 - the hub client raises errors of several libraries
        raise SigmaTuneError(
            f"there is no file {repository} and the hub provides no {PLAN} under that name: {reason(error)}."
        ) from None


def push(plan: Plan, repository: str, *, private: bool = False, message: str = "", model: str = "") -> str:
    """Writes a plan, its card and its drawing into a repository, in one commit; see :meth:`Plan.push_to_hub`."""
    from huggingface_hub import HfApi

    if not re.fullmatch(HUB_ID, repository):
        raise SigmaTuneError(f"a repository of the hub is owner/name, not {repository!r}.")
    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        write(plan, Path(folder), repository, model)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=message or f"Plan of {plan.calls} calls, {plan.solver}",
            )
        except Exception as error:  # noqa: BLE001 - the hub client raises errors of several libraries
            raise SigmaTuneError(
                f"the hub does not take {repository}: {reason(error)}; is a token set (hf auth login)?"
            ) from None
    return str(getattr(commit, "commit_url", None) or commit)


def write(plan: Plan, folder: Path, repository: str, model: str = "") -> None:
    """Writes the files of a repository into a folder."""
    plan.save(folder / PLAN)
    (folder / CARD).write_text(card_of(plan, repository, model), encoding="utf-8")
    (folder / DRAWING).write_text(drawing(plan), encoding="utf-8")
