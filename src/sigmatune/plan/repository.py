"""Plans on the Hugging Face hub: one repository per plan, with a card that shows what is known about it.

A repository holds ``plan.json``, the file that :meth:`Plan.save <sigmatune.plan.plan.Plan.save>` writes; ``README.md``, the
model card; and ``levels.svg``, the levels as a drawing. Loading reads ``plan.json`` alone and checks it like any file from a
stranger (``SECURITY.md``).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sigmatune.support.errors import SigmaTuneError, reason, shown
from sigmatune.support.files import write_text
from sigmatune.support.hub_access import UNREACHABLE, unreachable

HUB_ID = r"[\w-][\w.-]*/[\w-][\w.-]*"
PLAN = "plan.json"
"""The file that a repository has to hold."""


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

    away = unreachable(repository)
    try:
        return Path(hf_hub_download(repository, PLAN, revision=revision, local_files_only=away))
    except Exception as error:  # noqa: BLE001 - the hub client raises errors of several libraries
        if away:
            raise SigmaTuneError(f"there is no file {repository}, and {UNREACHABLE}.") from None
        raise SigmaTuneError(
            f"there is no file {repository} and the hub provides no {PLAN} under that name: {reason(error)}."
        ) from None


def push(files: Mapping[str, str], repository: str, message: str, *, private: bool = False) -> str:
    """Writes text files into a repository, in one commit, and returns its address.

    Args:
        files: Texts by name.
        repository: ``owner/name``; created if it is not there.
        message: The commit's message.
        private: Make a new repository private.

    Raises:
        SigmaTuneError: if that is no repository, or the hub refuses it.
    """
    from huggingface_hub import HfApi

    if not re.fullmatch(HUB_ID, repository):
        raise SigmaTuneError(f"a repository of the hub is owner/name, not {shown(repository)}.")
    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        write(files, Path(folder))
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
        except Exception as error:  # noqa: BLE001 - the hub client raises errors of several libraries
            raise SigmaTuneError(
                f"the hub does not take {repository}: {reason(error)}; is a token set (hf auth login)?"
            ) from None
    return str(getattr(commit, "commit_url", None) or commit)


def write(files: Mapping[str, str], folder: Path) -> None:
    """Writes text files into a folder."""
    for name, text in files.items():
        write_text(folder / name, text)
