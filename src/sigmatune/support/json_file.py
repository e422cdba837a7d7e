"""JSON files with a format and a version, validated field by field, refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sigmatune.support import reading
from sigmatune.support.errors import SigmaTuneError, reason, shown
from sigmatune.support.field_errors import problems


class Strict(BaseModel):
    """Fields of a file: unknown ones are refused and none is converted."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=True, strict=True)


Fields = TypeVar("Fields", bound=Strict)
Made = TypeVar("Made")


def format_of(path: str | Path) -> str | None:
    """The format that a JSON file states, None for anything else; never fails, as the reader reports errors."""
    try:
        stated = reading.json_of(path, kind="JSON")["format"]
    except (SigmaTuneError, TypeError, KeyError):
        return None
    return stated if isinstance(stated, str) else None


def parse(text: str, fields: type[Fields], *, kind: str, form: str, version: int) -> Fields:
    """Validates the text of a file.

    Args:
        text: The JSON.
        fields: Its fields.
        kind: The name of this format in messages, such as ``"plan"``.
        form, version: The accepted format and version.

    Raises:
        SigmaTuneError: in one sentence with the first problem and its place in the file.
    """
    raw = reading.parsed(text)
    stated = raw.get("format") if isinstance(raw, dict) else None
    if stated != form:
        but = f" and states {shown(stated)}" if isinstance(stated, str) else ""
        raise SigmaTuneError(f'this is not a valid {kind} file: it lacks "format": "{form}"{but}.')
    if type(raw.get("version")) is not int or raw["version"] != version:
        raise SigmaTuneError(
            f"this is a {kind} of version {shown(raw.get('version'))}, but only version {version} is known here."
        )
    return validated(raw, fields, f"this is not a valid {kind}")


def validated(raw: Any, fields: type[Fields], what: str) -> Fields:
    """Plain values as the fields of a file.

    Args:
        raw: The values.
        fields: The fields.
        what: The beginning of the sentence if they do not fit.

    Raises:
        SigmaTuneError: in one sentence with the first problem and its place.
    """
    try:
        return fields.model_validate(raw)
    except ValidationError as error:
        raise SigmaTuneError(f"{what}: {problems(error, raw, fields)}.".replace("?.", "?")) from None


def read(path: str | Path, loads: Callable[[str], Made], *, kind: str) -> Made:
    """Reads a file and parses its text; every error names the file.

    Raises:
        SigmaTuneError: if the file cannot be read, is not a text, or ``loads`` refuses it.
    """
    text = reading.text_of(path, kind=kind)
    try:
        return loads(text)
    except SigmaTuneError as error:
        raise SigmaTuneError(f"{path}: {error}") from None


def guarded(loads: Callable[[], Made], *, kind: str) -> Made:
    """Runs a loader whose numbers come from a file and turns its errors into one sentence.

    Raises:
        SigmaTuneError: in the place of errors of arithmetic, types and recursion.
    """
    try:
        return loads()
    except SigmaTuneError:
        raise
    except MemoryError:
        raise SigmaTuneError(f"this {kind} needs more memory than there is; write smaller numbers into it.") from None
    except (ValueError, TypeError, OverflowError, RecursionError, RuntimeError) as error:
        raise SigmaTuneError(f"this is not a valid {kind}: {reason(error)}.") from None


def schema(fields: type[Strict]) -> dict[str, Any]:
    """The JSON Schema of a file's fields, as published."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **fields.model_json_schema()}
