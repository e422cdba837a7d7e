"""Writing files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sigmatune.errors import SigmaTuneError


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file atomically: to a temporary file beside it, flushed to disk, then renamed.

    Raises:
        SigmaTuneError: if the folder does not exist or cannot be written to; nothing is left behind.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise SigmaTuneError(f"cannot write {path}: {error.strerror or error}.") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 text file atomically; see :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8"))
