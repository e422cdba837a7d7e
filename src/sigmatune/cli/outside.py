"""Turns refusals by the machine into a sentence: memory, permissions, full disks. Bugs are not handled here."""

from __future__ import annotations

import errno

from sigmatune.support.errors import of_memory, reason

LEAST = 2**30
"""Bytes of address space (``ulimit -v``) below which torch cannot even be imported."""

OF_MACHINE = { errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE,
    errno.ENFILE, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EAGAIN, errno.ENODEV, errno.ENXIO,
    errno.ETXTBSY, errno.EBUSY, errno.ESTALE,
}  # fmt: skip
"""System errors that no prior check can rule out."""

NO_MEMORY = (
    "there is not enough memory for this; free some, raise the limit (ulimit -v), or ask for less at a time, such as a smaller "
    "--micro-batch, --batch, --size or -n."
)


def refusal(error: Exception) -> str | None:
    """The sentence for an error that the machine caused; None for any other error, which is a bug."""
    if of_memory(error):
        return NO_MEMORY
    if isinstance(error, OSError) and error.errno in OF_MACHINE:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"the system refused: {where}{reason(error)}; fix that and run the same command again."
    return None


def check_memory() -> None:
    """Refuses to start if the memory limit is so low that libraries crash while loading.

    Raises:
        MemoryError: below :data:`LEAST`.
    """
    try:
        import resource
    except ImportError:  # not on this system
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < LEAST:
        raise MemoryError
