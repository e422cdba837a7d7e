"""Writing files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sigmatune.errors import SigmaTuneError

logger = logging.getLogger(__name__)


def write_bytes(path: str | Path, data: bytes, *, level: int = logging.INFO) -> None:
    """Writes a file atomically: to a temporary file beside it, flushed to disk, then renamed.

    Args:
        path: The file.
        data: What it is to hold.
        level: At which level it is logged; DEBUG for the many files of a store or a run folder.

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
        logger.log(level, "wrote %s, %s bytes", path, f"{len(data):,}")
    except OSError as error:
        raise SigmaTuneError(f"cannot write {path}: {error.strerror or error}.") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 text file atomically; see :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yields a folder to be filled that becomes the target, whole or not at all; an older target is replaced as a whole.

    Raises:
        SigmaTuneError: if it cannot be written, whatever the kind of error; the older one is still there.
    """
    new: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        yield new
        new.chmod(0o755)
        for file in new.rglob("*.safetensors"):
            file.chmod(0o644)
        old = new.with_name(f"{new.name}.old")
        if target.exists():
            target.rename(old)
        new.rename(target)
        logger.info("wrote the folder %s", target)
        shutil.rmtree(old, ignore_errors=True)
    except SigmaTuneError:
        raise
    except Exception as error:  # noqa: BLE001 - diffusers and safetensors raise their own kinds for a full disk
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise SigmaTuneError(f"cannot write {target}: {reason.rstrip('.')}.") from None
    finally:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
