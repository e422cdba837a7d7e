"""Ways to spoil a file: what disks, editors, other programs and people with bad intentions make of it."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st
from numpy.lib import format as npy

Draw = Callable[..., Any]

RAW = {  # written into the text as they are
    "@inf": "1e309",
    "@-inf": "-1e309",
    "@nan": "NaN",
    "@Infinity": "Infinity",
    "@digits": "9" * 5000,
    "@deep": "[" * 20_000,
    "@closed": "[" * 90 + "]" * 90,
    "@half": '"\\ud800"',
    "@comment": "1 // one",
    "@comma": "1,",
}

NASTY: list[Any] = [
    None,
    True,
    False,
    -1,
    0,
    1,
    2.5,
    10**9,
    10**30,
    -(10**9),
    1e-300,
    1e300,
    "",
    "x",
    "nan",
    "inf",
    "14.6",
    "a" * 100_000,
    "\x1b[31mred\x1b]0;title\x07",
    "\u202etxt.exe",
    "two\nlines\r\tand more",
    "\0",
    "../../etc/passwd",
    [],
    {},
    [[]],
    [[[[[]]]]],
    [1] * 10,
    ["a"] * 200,
    {"kind": "vp"},
    {"a": {"b": {}}},
    *RAW,
]

KEYS = ["", "x", "format", "\x1b[2J", "\u202e", "k" * 5000, "a.b", "__class__", "0"]


def places(raw: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values inside of plain values; of a long list the first and the last few."""
    yield above
    if isinstance(raw, dict):
        for key, value in raw.items():
            yield from places(value, (*above, key))
    if isinstance(raw, list):
        for i in range(len(raw)) if len(raw) < 6 else (0, 1, len(raw) - 2, len(raw) - 1):
            yield from places(raw[i], (*above, i))


def at(raw: Any, place: tuple[Any, ...]) -> Any:
    for part in place:
        raw = raw[part]
    return raw


def changed(draw: Draw, raw: Any) -> Any:
    """Plain values with one of them swapped, left out, renamed, added or wrapped."""
    raw = copy.deepcopy(raw)
    place = draw(st.sampled_from(list(places(raw))))
    how = draw(st.sampled_from(["swap", "swap", "swap", "swap", "without", "add", "rename", "wrap", "other", "repeat"]))
    new = at(raw, place)
    if how == "swap":
        new = draw(st.sampled_from(NASTY))
    elif how == "wrap":
        new = draw(st.sampled_from([[new], {"value": new}, str(new), [new, new]]))
    elif how == "other":
        new = copy.deepcopy(at(raw, draw(st.sampled_from(list(places(raw))))))
    elif how == "add" and isinstance(new, dict):
        new[draw(st.sampled_from(KEYS))] = draw(st.sampled_from(NASTY))
    elif how == "repeat" and isinstance(new, list):
        new = new * draw(st.sampled_from([0, 2, 50]))
    elif how == "rename" and isinstance(new, dict) and new:
        key = draw(st.sampled_from(sorted(new)))
        new[draw(st.sampled_from([key.upper(), key + "x", *KEYS]))] = new.pop(key)
    if not place:
        return new
    parent = at(raw, place[:-1])
    if how == "without":
        del parent[place[-1]]
    else:
        parent[place[-1]] = new
    return raw


def json_text(draw: Draw, text: str) -> bytes:
    """A text in JSON (or one object on each of its lines) with one or two values changed, or a key twice."""
    whole = text.lstrip().startswith(("{", "[")) and text.count("\n{") == 0
    parts = [text] if whole else text.splitlines()
    i = draw(st.integers(0, len(parts) - 1))
    raw = json.loads(parts[i])
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        raw = changed(draw, raw)
    made = json.dumps(raw, indent=draw(st.sampled_from([None, 2])) if whole else None)
    for name, token in RAW.items():
        made = made.replace(json.dumps(name), token)
    if draw(st.integers(0, 15)) == 0 and made.startswith("{"):
        made = made.replace("{", '{"format": 1, "format": 2,', 1)
    parts[i] = made
    return "\n".join(parts).encode("utf-8", "surrogatepass") + b"\n"


def yaml_text(draw: Draw, text: str) -> bytes:
    """A text in YAML with values changed, or with what only YAML has."""
    own = [
        "name: 2024-13-45",
        "[" * 20_000,
        "a: &a [*a]",
        "&a {b: *a}",
        "name: !!python/object:os.system x",
        "\tname: x",
        "name: x\nname: y",
        "? [a, b]\n: 1",
        "1: 2",
        "null: 3",
        "training: {rate: .inf}",
        "training: {rate: .nan}",
        "a: &a [1,2,3,4,5,6,7,8,9]\n"
        + "\n".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "training: {images: 1_000}",
        "name: 'x",
        "name: \x1b[31m",
        "name: 0o17",
        "training:\n  images: 8\n bad: 3",
        "--- 1\n--- 2",
        "%YAML 9",
        "name: !!binary x",
        "name: !!timestamp 2024-99-99",
        "name: 12:61:99",
        "training: {images: 1e3}",
        "<<: 3",
        "<<: *x",
    ]
    if draw(st.booleans()):
        one = draw(st.sampled_from(own))
        return (one if draw(st.booleans()) else text + "\n" + one).encode()
    return json_text(draw, json.dumps(yaml.safe_load(text)))


def any_bytes(draw: Draw, data: bytes) -> bytes:
    """Bytes that a disk or a transfer would make of others."""
    how = draw(
        st.sampled_from(["cut", "flip", "flip", "insert", "empty", "noise", "latin", "utf-16", "bom", "twice", "zeros"])
    )
    place = draw(st.integers(0, max(len(data) - 1, 0)))
    some = draw(st.binary(min_size=1, max_size=12))
    made = {
        "cut": data[:place],
        "flip": data[:place] + some + data[place + len(some) :],
        "insert": data[:place] + some + data[place:],
        "empty": b"",
        "noise": some * 20,
        "latin": data[:place] + b"\xff\xfe\xe9" + data[place:],
        "bom": b"\xef\xbb\xbf" + data,
        "twice": data + data,
        "zeros": data[:place] + bytes(len(data) - place),
    }
    return made[how] if how in made else data.decode("latin-1").encode("utf-16")


def npy_bytes(shape: Any, dtype: str = "<f8", *, fortran: bool = False, data: bytes = b"") -> bytes:
    """An ``.npy`` file whose header says what it likes."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def npy_lies(draw: Draw, data: bytes) -> bytes:
    """An ``.npy`` file of another shape or type, with a header that lies, or spoilt."""
    array = np.load(io.BytesIO(data))
    lies = [
        npy_bytes((10**9, 3, 32, 32), "|u1"),
        npy_bytes((1, 40_000, 40_000, 3), "|u1"),
        npy_bytes((2**62, 4, 8, 8)),
        npy_bytes((-1, 8, 8)),
        npy_bytes((), "<f8", data=bytes(8)),
        npy_bytes((3,), "<U1000000"),
        npy_bytes((4, 8, 8), "|O"),
        npy_bytes((4, 8, 8), "<f8", fortran=True, data=bytes(2048)),
        npy_bytes((4, 8, 8), "<M8[s]", data=bytes(2048)),
        npy_bytes((4, 8, 8), "<c16", data=bytes(4096)),
        npy_bytes((0, 8, 8)),
        npy_bytes("x"),
        npy_bytes((4, 8), "nonsense"),
        npy_bytes((2.5, 8)),
        npy_bytes((True, 8, 8)),
    ]
    how = draw(st.integers(0, len(lies) + 5))
    if how < len(lies):
        return lies[how]
    values = np.asarray(array, dtype=np.float64) if array.dtype.kind in "fiub" else array
    others: list[Any] = [
        np.zeros_like(array).reshape(-1)[:1],
        values * np.nan if values.dtype.kind == "f" else array,
        np.full(array.shape, np.inf),
        array[..., None],
        array.astype("U10"),
        array[:, None] if array.ndim else array,
    ]
    buffer = io.BytesIO()
    np.save(buffer, others[how - len(lies)])
    return buffer.getvalue()


def npz_bytes(draw: Draw, data: bytes) -> bytes:
    """An archive of arrays with one of them spoilt, left out or renamed; or the archive itself spoilt."""
    if draw(st.integers(0, 3)) == 0:
        return any_bytes(draw, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from(sorted(members)))
    text = _text_in(members[name])
    how = draw(st.sampled_from(["lie", "lie", "spoil", "without", "rename", "bomb", "text"]))
    if how == "text" and text is not None:
        buffer = io.BytesIO()
        np.save(buffer, np.array(json_text(draw, text).decode("utf-8", "replace")))
        members[name] = buffer.getvalue()
    elif how in ("lie", "text"):
        members[name] = npy_lies(draw, members[name])
    elif how == "spoil":
        members[name] = any_bytes(draw, members[name])
    elif how == "bomb":
        members[name] = npy_bytes((2**16, 32, 32), "|u1", data=bytes(2**26))
    else:
        kept = members.pop(name)
        if how == "rename":
            members[draw(st.sampled_from(["\x1b[2J.npy", "../x.npy", "images.npy", "x" * 200 + ".npy"]))] = kept
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return made.getvalue()


def _text_in(data: bytes) -> str | None:
    array = np.load(io.BytesIO(data))
    return str(array) if array.dtype.kind == "U" and array.ndim == 0 else None


def safetensors_bytes(draw: Draw, data: bytes) -> bytes:
    """A file of weights whose header lies, with a state that is changed, or spoilt."""
    if draw(st.integers(0, 3)) == 0:
        return any_bytes(draw, data)
    length = struct.unpack("<Q", data[:8])[0]
    raw = json.loads(data[8 : 8 + length])
    state = raw.get("__metadata__", {}).get("state")
    if state is not None and draw(st.booleans()):
        raw["__metadata__"]["state"] = json_text(draw, state).decode("utf-8", "replace")
        text = json.dumps(raw)
    else:
        text = json_text(draw, json.dumps(raw)).decode("utf-8", "replace")
    size = draw(st.sampled_from([len(text.encode())] * 6 + [2**40, 2**63, 0, 8]))
    return struct.pack("<Q", size) + text.encode() + data[8 + length :]


def picture_bytes(draw: Draw, data: bytes) -> bytes:
    """An image that is spoilt, or a few bytes that promise billions of pixels."""
    if draw(st.integers(0, 4)) == 0:
        width = draw(st.sampled_from([60_000, 12_000, 2**31 - 1, 0]))
        ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)
        chunks = ((ihdr,), (b"IDAT" + zlib.compress(bytes(100)),), (b"IEND",))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(c[0]) - 4) + c[0] + struct.pack(">I", zlib.crc32(c[0])) for c in chunks
        )
    return any_bytes(draw, data)


def text_lines(draw: Draw, data: bytes) -> bytes:
    """A text of lines or of numbers in which a piece is replaced."""
    if draw(st.integers(0, 2)) == 0 or b"\0" in data:
        return any_bytes(draw, data)
    text = data.decode()
    words = text.replace("\n", ",").split(",")
    i = draw(st.integers(0, len(words) - 1))
    new = draw(st.sampled_from([str(value) for value in NASTY if not str(value).startswith("@")] + list(RAW.values())))
    return text.replace(words[i], new, 1).encode("utf-8", "surrogatepass") if words[i] else new.encode()


def spoil_kind(draw: Draw, file: Path) -> None:
    """Puts something into the place of a file that is no regular file, or far too large."""
    how = draw(st.sampled_from(["folder", "pipe", "socket", "device", "dangling", "gone", "huge", "circle"]))
    file.unlink()
    if how == "folder":
        file.mkdir()
    elif how == "pipe":
        os.mkfifo(file)
    elif how == "socket":
        here = Path.cwd()
        os.chdir(file.parent)  # the name of a socket is short
        try:
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(file.name)
        finally:
            os.chdir(here)
    elif how == "device":
        file.symlink_to("/dev/zero")
    elif how == "dangling":
        file.symlink_to(file.with_name("nowhere"))
    elif how == "circle":
        file.symlink_to(file)
    elif how == "huge":
        with file.open("wb") as end:
            end.truncate(6 * 2**30)


def spoil(draw: Draw, file: Path) -> None:
    """Spoils a file by a way that fits what it is."""
    if draw(st.integers(0, 9)) == 0:
        spoil_kind(draw, file)
        return
    data = file.read_bytes()
    by_ending: dict[str, Callable[[Draw, bytes], bytes]] = {
        ".json": lambda d, b: json_text(d, b.decode()),
        ".jsonl": lambda d, b: json_text(d, b.decode()),
        ".yaml": lambda d, b: yaml_text(d, b.decode()),
        ".npz": npz_bytes,
        ".npy": npy_lies,
        ".safetensors": safetensors_bytes,
        ".png": picture_bytes,
        ".jpg": picture_bytes,
    }
    fitting = by_ending.get(file.suffix, text_lines)
    plain = draw(st.integers(0, 4)) == 0
    made = any_bytes(draw, data) if plain or not data else fitting(draw, data)
    file.unlink()
    file.write_bytes(made)


def emptied(folder: Path) -> None:
    """Removes all that lies in a folder."""
    for inside in folder.iterdir():
        if inside.is_dir() and not inside.is_symlink():
            shutil.rmtree(inside)
        else:
            inside.unlink()


assert npy_bytes((1,))[:6] == npy.MAGIC_PREFIX
