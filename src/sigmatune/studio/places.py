"""What the page may read: files below the folder in which the command was started, the cache, and uploads.

A name is resolved, links followed, before it is compared, so neither ``..`` nor a link leads outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sigmatune.models.bundled import bundled_names
from sigmatune.models.exact_names import cache, is_exact
from sigmatune.models.source import HUB_ID
from sigmatune.support.errors import SigmaTuneError, shown

UPLOAD = 64 * 2**20
"""Most bytes of one upload."""


@dataclass(frozen=True)
class Places:
    """The folders from which files may be read.

    Attributes:
        start: Where the command was started; names are relative to it.
        uploads: Where uploads are kept.
        given: The model that the command itself named, which may lie anywhere.
    """

    start: Path
    uploads: Path
    given: str = ""

    def model(self, source: str) -> str:
        """A model's name as :func:`sigmatune.load` takes it.

        Raises:
            SigmaTuneError: if it is a folder or file outside.
        """
        source = source.strip()
        if not source:
            raise SigmaTuneError("name a model: a bundled one, a folder below the start folder, or a hub id.")
        if not source.isprintable():
            raise SigmaTuneError(f"{shown(source)} is not a name of a model.")
        if source in bundled_names() or is_exact(source) or (self.given and source == self.given):
            return source
        if re.fullmatch(HUB_ID, source) and not (self.start / source).exists():
            return source
        if not re.search(r"[/\\.~]", source) and not (self.start / source).exists():
            return source  # load() names the nearest bundled model
        return str(trained(self.file(source)))

    @contextmanager
    def named(self) -> Iterator[None]:
        """Where the block raises a sentence, files have the names in it that a visitor knows, without the folders above."""
        try:
            yield
        except SigmaTuneError as error:
            words = re.sub(rf"{re.escape(str(self.uploads.resolve()))}/\w+/", "", str(error))
            start = str(self.start.resolve())
            words = re.sub(rf"{re.escape(start)}(?![\w/.-])", "the start folder", words.replace(f"{start}/", ""))
            raise type(error)(words) from None

    def file(self, name: str) -> Path:
        """A file or folder below one of the folders.

        Raises:
            SigmaTuneError: if it lies outside, or does not exist.
        """
        try:
            path = (self.start / Path(name).expanduser()).resolve()
        except (OSError, RuntimeError, ValueError):
            raise SigmaTuneError(f"{shown(name)} is not a name of a file or folder.") from None
        roots = (self.start.resolve(), cache().resolve(), self.uploads.resolve())
        if not any(path.is_relative_to(root) for root in roots):
            raise SigmaTuneError(
                f"{shown(name)} lies outside the folder in which the studio was started; start it there, or upload the file."
            )
        if not path.exists():
            raise SigmaTuneError(f"there is no file or folder {shown(name)} in the folder of the studio.")
        return path


def trained(folder: Path) -> Path:
    """The model of a training's run folder, or the folder itself."""
    inner = folder / "model"
    return inner if not (folder / "model_index.json").exists() and (inner / "model_index.json").is_file() else folder
