"""Folders as people have them: every type that Pillow reads, links, hidden names, transparency, and a count of the rest."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image, features

from sets import noise_pictures
from sigmatune.spectra.images import left_out_told
from sigmatune.spectra.listing import KINDS, listing, suffixes
from sigmatune.spectra.sources import open_images
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.data import load

SEEN = noise_pictures(6, shape=(8, 8, 3))


def save(path, image=SEEN[0], **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **how)


def read(source, **how):
    return torch.cat([batch for batch, _ in open_images(source, **how)])


@pytest.fixture
def untidy(tmp_path):
    """Two classes, one behind a link, and all that lies about."""
    data = tmp_path / "data"
    save(data / "a" / "1.png")
    save(data / "a" / "2.jfif", format="JPEG")
    save(data / "a" / "deeper" / "3.tga", SEEN[1])
    save(tmp_path / "elsewhere" / "4.BMP", SEEN[2])
    save(tmp_path / "elsewhere" / "file.png", SEEN[3])
    (data / "b").symlink_to(tmp_path / "elsewhere")
    (data / "a" / "5.png").symlink_to(tmp_path / "elsewhere" / "file.png")
    save(data / ".ipynb_checkpoints" / "1.png")
    save(data / "a" / "._1.png")
    (data / "a" / "loop").symlink_to(data)
    (data / "b" / "gone.png").symlink_to(tmp_path / "nowhere")
    (data / "a" / "notes.txt").write_text("no image")
    (data / "a" / "README").write_text("no image")
    os.mkfifo(data / "a" / "pipe.png")
    (data / "c").mkdir()
    return data


LEFT_OUT = {"broken link": 1, "hidden name": 2, "link in a circle": 1, "no regular file": 1, "type .txt": 1,
            "type without an ending": 1}  # fmt: skip


def test_all_images_of_an_untidy_folder(untidy):
    images = open_images(untidy)
    assert images.count == 6
    assert images.classes == ("a", "b")
    assert [labels for _, labels in images] == [["a"] * 4 + ["b"] * 2]
    assert images.left_out == LEFT_OUT
    assert images.empty == ("c",)
    told = "6 images of {}; left out: 1 broken link, 2 hidden name, 1 link in a circle, 1 no regular file, 1 type .txt"
    assert left_out_told(images.about()).startswith(told.format(untidy))
    assert "1 folder(s) without an image, such as c" in left_out_told(images.about())
    assert len(left_out_told(images.about())) < 300 + len(str(untidy))


def test_commands_say_what_was_left_out(untidy, run):
    code, out, err = run("spectrum", untidy)
    assert code == 0, err
    assert "left out: 1 broken link, 2 hidden name" in " ".join(out.split())
    code, out, err = run("spectrum", untidy, "--json")
    assert json.loads(out)["data"]["left_out"] == LEFT_OUT, err
    words = (
        "--images",
        untidy,
        "--reference",
        untidy,
        "--extractor",
        "pixels",
        "--spaces",
        "pixels-pca2",
        "--metrics",
        "fd",
    )
    code, out, err = run("evaluate", *words)
    assert code == 0, err
    assert " ".join(out.split()).count("left out: 1 broken link") == 2
    found = json.loads((untidy.parent / "evaluation.json").read_text())
    assert found["about"]["left_out"] == found["reference_about"]["left_out"] == LEFT_OUT
    assert load(untidy).about["left_out"] == LEFT_OUT


def test_a_tidy_folder_needs_no_word(tmp_path, run):
    save(tmp_path / "data" / "a.png")
    save(tmp_path / "data" / "b.png", SEEN[1])
    assert left_out_told(open_images(tmp_path / "data").about()) == ""
    _, out, _ = run("spectrum", tmp_path / "data")
    assert "left out" not in out


def test_links_in_a_circle_end(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        save(tmp_path / name / f"{name}.png")
        (tmp_path / name / "other").symlink_to(tmp_path / other)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    found = listing(tmp_path)
    names = [str(file.relative_to(tmp_path)) for file in found.files]
    assert names == ["a/a.png", "a/other/b.png", "b/b.png", "b/other/a.png"]
    assert found.left_out == {"link in a circle": 4}


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    save(tmp_path / "a" / "1.png")

    def denied(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sigmatune.spectra.listing.os.scandir", denied)
    with pytest.raises(SigmaTuneError, match=r"cannot read the folder .*: Permission denied"):
        listing(tmp_path)


def test_many_endings_are_counted_together(tmp_path):
    save(tmp_path / "a.png")
    for i in range(KINDS + 8):
        (tmp_path / f"x.end{i}").write_text("")
    left_out = listing(tmp_path).left_out
    assert len(left_out) == KINDS + 1
    assert left_out["other types"] == 8


def test_types_are_those_that_pillow_decodes_by_itself():
    assert {".png", ".jpg", ".jfif", ".tga", ".bmp", ".webp", ".tiff", ".gif", ".pcx", ".ppm", ".jp2"} <= suffixes()
    assert not {".eps", ".pdf", ".h5", ".wmf", ".mpg", ".txt", ".npz"} & suffixes()


ENDINGS = (
    "bmp",
    "dds",
    "dib",
    "gif",
    "ico",
    "jfif",
    "jp2",
    "jpg",
    "pcx",
    "png",
    "ppm",
    "sgi",
    "tga",
    "tif",
    "webp",
    "avif",
)
OPTIONAL = {"jp2": "jpg_2000", "webp": "webp", "avif": "avif"}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_type_is_read(tmp_path, ending):
    if ending in OPTIONAL and not features.check(OPTIONAL[ending]):
        pytest.skip("not in this build of Pillow")
    smooth = np.linspace(60, 200, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    save(tmp_path / f"a.{ending}", smooth)
    assert_allclose(read(tmp_path)[0], smooth.transpose(2, 0, 1) / 127.5 - 1, atol=0.12)


def see_through(mode):
    """An image whose left half is transparent and whose right half is opaque black."""
    alpha = np.repeat(np.array([[0, 0, 255, 255]], np.uint8), 4, axis=0)
    if mode in ("RGBA", "LA"):
        black = np.zeros((4, 4, len(mode) - 1), np.uint8)
        return Image.fromarray(np.concatenate([black, alpha[..., None]], axis=2)), {}
    values = np.where(alpha == 0, 7, 0).astype(np.uint8)
    if mode == "P":
        image = Image.fromarray(values).convert("P")
        image.putpalette([0, 0, 0] * 256)
        return image, {"transparency": 7}
    if mode == "1":
        return Image.fromarray(values > 0), {"transparency": 255}
    image = Image.fromarray(values) if mode == "L" else Image.fromarray(np.repeat(values[..., None], 3, axis=2))
    return image, {"transparency": 7 if mode == "L" else (7, 7, 7)}


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 3), ("LA", 1), ("P", 3), ("L", 1), ("RGB", 3), ("1", 1)])
def test_transparent_pixels_are_white_however_a_file_says_it(tmp_path, mode, channels):
    image, how = see_through(mode)
    save(tmp_path / "a.png", image, **how)
    found = read(tmp_path)
    assert found.shape == (1, channels, 4, 4)
    assert (found[..., :2] == 1).all(), "transparent"
    assert (found[..., 2:] == -1).all(), "opaque black"


def test_opaque_alpha_changes_nothing(tmp_path):
    save(tmp_path / "a.png", np.concatenate([SEEN[0], np.full((8, 8, 1), 255, np.uint8)], axis=2))
    save(tmp_path / "b.png", SEEN[0])
    found = read(tmp_path)
    assert torch.equal(found[0], found[1])


def test_of_several_frames_the_first_is_read(tmp_path):
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 255)]
    for ending in ("gif", "tif", "png"):
        save(tmp_path / ending / f"a.{ending}", frames[0], save_all=True, append_images=frames[1:])
        assert (read(tmp_path / ending) == -1).all(), ending


def test_inks_and_orientation(tmp_path):
    save(tmp_path / "ink" / "a.tif", Image.new("CMYK", (8, 8), (0, 0, 0, 255)))
    assert (read(tmp_path / "ink") == -1).all()
    assert read(tmp_path / "ink").shape == (1, 3, 8, 8)
    exif = Image.Exif()
    exif[0x0112] = 3
    save(tmp_path / "turned" / "a.png", SEEN[0], exif=exif)
    assert_allclose(read(tmp_path / "turned")[0], np.rot90(SEEN[0], 2).transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("damage", ["cut off", "no image", "empty"])
def test_damaged_files_are_refused_and_not_left_out(tmp_path, run, damage):
    save(tmp_path / "data" / "a.png", noise_pictures(1, shape=(64, 64, 3))[0])
    whole = (tmp_path / "data" / "a.png").read_bytes()
    bad = {"cut off": whole[: len(whole) // 2], "no image": b"GIF, not really", "empty": b""}[damage]
    (tmp_path / "data" / "b.png").write_bytes(bad)
    code, _, err = run("spectrum", tmp_path / "data", "--out", "s.json")
    assert code == 2
    assert "b.png cannot be read" in err
    assert "leave it out" in err
    assert not (tmp_path / "s.json").exists()
