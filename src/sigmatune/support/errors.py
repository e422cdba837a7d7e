"""The one exception that means "your input, not our bug": its message is one sentence that says what to pass instead.

A message may quote text from untrusted files (names, values, a library's words). This module alone makes it safe to
display: one line, control characters visible, at most :data:`MOST` characters.
"""

from __future__ import annotations

import difflib
import errno
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MOST = 300
"""Characters of a message. A longer one loses its middle, because the place comes first and the cure last."""

QUOTED = 60
"""Most characters of a quoted value."""

REASON = 120
"""Most characters of a library's message."""

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories that are shown by their codes: control characters, directions of writing, halves of pairs."""

_NO_MEMORY = re.compile(
    "not enough memory|can't allocate memory|cannot allocate memory|out of memory|failed to map segment|bad_alloc|"
    "can't start new thread|"
    "storage size calculation overflowed|numel: integer multiplication overflow", re.IGNORECASE,
)  # fmt: skip

_INTERNALS = re.compile(
    r"<(?:function|class|bound method|built-in|module|_io\.|[\w.]+ object)[^<>]*>|functools\.partial\b|0x[0-9a-f]{8,}"
)


class SigmaTuneError(ValueError):
    """Raised for bad input. The command line prints the message and exits with code 2.

    Args:
        message: One sentence; control characters in it are made visible, and it is cut to :data:`MOST` characters.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(sentence(message))


class PlanMismatch(UserWarning):
    """A plan is used with another model or solver than it was made for, so its evidence does not carry over."""


def sentence(text: str) -> str:
    """A text safe to display: on one line, without invisible characters, and not too long."""
    return shortened(visible(" ".join(text[: 64 * MOST].split()) if len(text) <= 64 * MOST else _ends(text)), MOST)


def visible(text: str) -> str:
    r"""Replaces characters that control a terminal, such as ESC or right-to-left marks, by ``\x1b`` codes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_code(c) if unicodedata.category(c) in HIDDEN else c for c in text)


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters; a longer text loses its middle."""
    if len(text) <= most:
        return text
    tail = most * 2 // 5
    return f"{text[: most - tail - 5].rstrip()} ... {text[len(text) - tail :].lstrip()}"


def ending(file: Path) -> str:
    """The ending of a file's name as a message quotes it."""
    return shown(file.suffix) if file.suffix else "a name without an ending"


def shown(value: Any, most: int = QUOTED) -> str:
    """A value as a message quotes it: its repr, shortened, and of a large collection only the beginning."""
    if isinstance(value, str):
        return repr(shortened(visible(value[: 4 * most]) if len(value) > 4 * most else visible(value), most))
    if isinstance(value, dict):
        return "an object" if value else "{}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * most:
        return f"a number of {value.bit_length()} bits"
    return shortened(visible(_INTERNALS.sub("...", repr(value))), most)


def of_memory(error: BaseException) -> bool:
    """Whether an error reports that memory ran out, which every library words differently."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError | ImportError | OSError) and bool(_NO_MEMORY.search(str(error)))


def reason(error: BaseException) -> str:
    """Why a library failed, in a few words: the system's name of the error, or the first line of the message."""
    if of_memory(error):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text, from byte {error.start} on"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError) and error.args:
        return f"{shown(error.args[0])} is missing"
    text = str(error)[: 16 * REASON].strip()
    lines = ["a whole number has too many digits"] if "set_int_max_str_digits" in text else text.splitlines()
    first = next((line.strip() for line in lines if line.strip()), type(error).__name__)
    return shortened(visible(_INTERNALS.sub("...", first)), REASON).rstrip(".")


def unloadable(what: str, error: BaseException) -> SigmaTuneError:
    """Builds the error for a network whose files a library refuses, in words that say which file to look at.

    Args:
        what: The network and its place, such as ``"the UNet2DModel in model/unet"``.
        error: The library's error.
    """
    if of_memory(error):
        cure = "load it where more is free"
    elif type(error).__name__ == "SafetensorError":
        cure = "its weights are damaged, so copy or download them again"
    elif isinstance(error, OSError):
        cure = "copy or download the whole folder again"
    else:
        cure = "its config.json and its weights do not fit together, so copy or download both again"
    return SigmaTuneError(f"{what} cannot be loaded ({reason(error)}); {cure}.")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> SigmaTuneError:
    """Builds the error for a name that is not in a registry, with the nearest names first.

    Args:
        kind: The kind of the name, such as ``"solver"``.
        name: The requested name.
        known: The names that exist.
    """
    names = sorted(set(known))
    if not isinstance(name, str):
        return SigmaTuneError(
            f"the name of {'an' if kind[:1] in 'aeiou' else 'a'} {kind} is a text, not {shown(name)}."
        )
    near = difflib.get_close_matches(name[:QUOTED].lower(), names, n=3, cutoff=0.4)
    if near:
        return SigmaTuneError(f"there is no {kind} {shown(name)}; did you mean {' or '.join(map(repr, near))}?")
    rest = f"the known ones are {', '.join(names)}" if names else "there are none"
    return SigmaTuneError(f"there is no {kind} {shown(name)}; {rest}.")


def check_kind(value: object, kinds: type | tuple[type, ...], what: str) -> None:
    """Refuses an argument of another kind, where Python would name an attribute that the caller does not know.

    Args:
        value: The argument.
        kinds: What it may be.
        what: What it has to be, such as ``"the model must be a denoiser, as st.load returns"``.

    Raises:
        SigmaTuneError: if it is an instance of none of these.
    """
    if not isinstance(value, kinds):
        raise SigmaTuneError(f"{what}, not {shown(value)}.")


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _ends(text: str) -> str:
    """The beginning and the end of a text that is far too long to look through."""
    return " ".join(f"{text[: 8 * MOST]} ... {text[-8 * MOST :]}".split())
