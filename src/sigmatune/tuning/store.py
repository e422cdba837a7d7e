"""Arrays on disk by name, from which the next run resumes after a kill."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sigmatune.noise import Array
from sigmatune.support.files import make_folder, write_bytes
from sigmatune.support.reading import sealed, unsealed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """A folder of arrays; several processes may share it, because files appear whole or not at all.

    Attributes:
        folder: Created with the first array; None keeps nothing.
    """

    folder: Path | None

    def __len__(self) -> int:
        """How many arrays there are."""
        return 0 if self.folder is None else sum(1 for _ in self.folder.glob("*.npy"))

    def read(self, key: str) -> Array | None:
        """The array of this name; None if it is not there, not whole, or was changed."""
        if self.folder is None:
            return None
        file = self.folder / f"{key}.npy"
        data = unsealed(file)
        if data is None:
            return None
        logger.debug("found in the store: %s", file)
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))

    def write(self, key: str, value: Array) -> None:
        """Keeps an array.

        Raises:
            SigmaTuneError: if the folder cannot be made.
        """
        if self.folder is None:
            return
        buffer = io.BytesIO()
        np.save(buffer, value)
        write_bytes(make_folder(self.folder) / f"{key}.npy", sealed(buffer.getvalue()), level=logging.DEBUG)
