"""JSON files that say what they are: a format and a version, validated field by field, refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sigmatune.errors import SigmaTuneError


class Strict(BaseModel):
    """Fields of a file: unknown ones are refused and none is converted."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=True, strict=True)


Fields = TypeVar("Fields", bound=Strict)
Made = TypeVar("Made")


def format_of(path: str | Path) -> str | None:
    """The format that a JSON file states, None for anything else; never fails, for the real reader says what is wrong."""
    try:
        stated = json.loads(Path(path).read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return stated if isinstance(stated, str) else None


def parse(text: str, fields: type[Fields], *, kind: str, form: str, version: int) -> Fields:
    """Validates the text of a file.

    Args:
        text: The JSON.
        fields: Its fields.
        kind: What a file of this format is called in messages, such as ``"plan"``.
        form, version: The format and the only version that are accepted.

    Raises:
        SigmaTuneError: in one sentence that lists every problem with its place in the file.
    """
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise SigmaTuneError(f"this is no JSON ({error}).") from None
    stated = raw.get("format") if isinstance(raw, dict) else None
    if stated != form:
        but = f" and states {stated!r}" if isinstance(stated, str) else ""
        raise SigmaTuneError(f'this is no {kind} file: it lacks "format": "{form}"{but}.')
    if type(raw.get("version")) is not int or raw["version"] != version:
        raise SigmaTuneError(
            f"this is a {kind} of version {raw.get('version')!r}, but only version {version} is known here."
        )
    try:
        return fields.model_validate(raw)
    except ValidationError as error:
        problems = {".".join(map(str, e["loc"])) or "file": e["msg"] for e in error.errors(include_url=False)}
        raise SigmaTuneError(
            f"this is no valid {kind}: " + "; ".join(f"{k}: {v}" for k, v in problems.items()) + "."
        ) from None


def read(path: str | Path, loads: Callable[[str], Made], *, kind: str) -> Made:
    """Reads a file and makes something of its text; every error names the file.

    Raises:
        SigmaTuneError: if the file cannot be read, is no text, or ``loads`` refuses it.
    """
    try:
        return loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SigmaTuneError(f"cannot read {path}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise SigmaTuneError(f"{path} is no {kind} file: it is not text.") from None
    except SigmaTuneError as error:
        raise SigmaTuneError(f"{path}: {error}") from None


def guarded(loads: Callable[[], Made], *, kind: str) -> Made:
    """Runs a loader whose numbers come from a file and turns what they break into one sentence.

    Raises:
        SigmaTuneError: in the place of errors of arithmetic, types and recursion.
    """
    try:
        return loads()
    except SigmaTuneError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SigmaTuneError(f"this is no valid {kind}: {reason}.") from None


def schema(fields: type[Strict]) -> dict[str, Any]:
    """The JSON Schema of a file's fields, as it is published."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **fields.model_json_schema()}
