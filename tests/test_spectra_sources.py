"""The same images come out of every kind of source, in any batch size, and what is no image is refused by name."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from sigmatune.spectra import spectrum_of
from sigmatune.spectra.measured_spectra import measure
from sigmatune.spectra.sources import open_images
from sigmatune.support.errors import SigmaTuneError


def pixels(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def everything(source, **how):
    """All images in one tensor, and all labels."""
    batches = list(open_images(source, **how))
    labels = [label for _, part in batches for label in part or []]
    return torch.cat([images for images, _ in batches]), labels or None


def scaled(values, top=255):
    """uint8 (n, H, W, C) to [-1, 1], (n, C, H, W)."""
    return values.transpose(0, 3, 1, 2) / top * 2 - 1


def refused(says, source, **how):
    with pytest.raises(SigmaTuneError, match=says) as caught:
        everything(source, **how)
    message = str(caught.value)
    assert message[-1] in ".?"
    assert "\n" not in message


@pytest.fixture
def folder(tmp_path):
    """Seven images of two classes and what lies about in folders."""
    root = tmp_path / "set"
    values = pixels(7, 5, 6, 3)
    for i, image in enumerate(values):
        where = root / ("cats" if i < 3 else "dogs/deeper")
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(where / f"{i}.{'PNG' if i % 2 else 'png'}")
    (root / "readme.txt").write_text("no image")
    (root / "cats" / ".hidden.png").write_text("no image")
    return root, values


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 256])
def test_every_source_gives_the_same_images(folder, batch, tmp_path):
    root, values = folder
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", values)
    np.savez_compressed(tmp_path / "b.npz", images=values.transpose(0, 3, 1, 2), other=np.zeros((2, 2, 2)))
    sources = [root, tmp_path / "a.npy", tmp_path / "a.npz", str(tmp_path / "b.npz"), values, torch.from_numpy(values)]
    for source in sources:
        images = open_images(source, batch=batch)
        assert images.count == 7
        batches = [part for part, _ in images]
        assert [len(part) for part in batches] == [batch] * (7 // batch) + [7 % batch] * (7 % batch > 0)
        assert all(part.dtype == torch.float32 for part in batches)
        assert_allclose(torch.cat(batches), scaled(values), atol=2e-7)
        assert all(torch.equal(a, b) for (a, _), b in zip(images, batches, strict=True)), "a second pass is the same"


def test_subfolders_are_classes_only_if_all_images_lie_in_them(folder):
    root, values = folder
    images = open_images(root, batch=2)
    assert images.labels
    assert images.classes == ("cats", "dogs")
    assert [labels for _, labels in images] == [["cats"] * 2, ["cats", "dogs"], ["dogs"] * 2, ["dogs"]]
    Image.fromarray(values[0]).save(root / "a.png")
    images = open_images(root)
    assert not images.labels
    assert [labels for _, labels in images] == [None]
    assert images.count == 8


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 7)),
    st.sampled_from(["NHW", "NHWC", "NCHW"]),
    st.sampled_from([np.uint8, np.uint16, np.bool_, np.float16, np.float32, np.float64, ">f4", ">u2"]),
    st.integers(1, 10),
)
def test_layouts_and_dtypes(shape, layout, dtype, batch):
    n, height, width = shape
    channels = {"NHW": 1, "NHWC": 2, "NCHW": 5}[layout]
    values = np.random.default_rng(n).random((n, height, width, channels))
    top = {"b": 1, "u": 255 if dtype == np.uint8 else 65535, "f": None}[np.dtype(dtype).kind]
    stored = (values * (top or 1)).round(0 if top else 8).astype(dtype)
    expected = scaled(stored.astype(float), top or 1)
    array = {"NHW": stored[..., 0], "NHWC": stored, "NCHW": stored.transpose(0, 3, 1, 2)}[layout]
    values = {"b": "auto", "u": f"0..{top}", "f": "0..1"}[np.dtype(dtype).kind]
    images, _ = everything(array, layout=layout, batch=batch, values=values)
    assert_allclose(images, expected, atol=3e-7, rtol=1e-6)
    assert images.is_contiguous()


def test_latents_pass_unchanged_where_that_is_said():
    latents = torch.randn(5, 4, 8, 8) * 9
    refused("neither 0..1, -1..1 nor 0..255; pass values, or 'as-is'", latents)
    assert torch.equal(everything(latents, values="as-is")[0], latents)
    assert torch.equal(everything(latents.requires_grad_(), values="as-is")[0], latents)
    half = latents.detach().bfloat16()
    assert torch.equal(everything(half, values="as-is")[0], half.float())
    assert torch.equal(everything(half.half(), values="as-is")[0], half.half().float())


def test_the_ends_of_the_value_range_are_met_exactly():
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535), (np.bool_, 1)):
        ends = np.array([0, top]).astype(dtype).reshape(1, 1, 2)
        assert everything(ends)[0].flatten().tolist() == [-1, 1]
        assert everything(ends, value_range=(0, 1))[0].flatten().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("mode", "channels"),
    [
        ("1", 1),
        ("L", 1),
        ("LA", 1),
        ("I;16", 1),
        ("F", 1),
        ("P", 3),
        ("RGB", 3),
        ("RGBA", 3),
        ("CMYK", 3),
        ("YCbCr", 3),
    ],
)
def test_modes_of_image_files(mode, channels, tmp_path):
    colour = Image.fromarray(pixels(3, 2, 3))
    image = Image.fromarray(pixels(3, 2, dtype=np.uint16)) if mode == "I;16" else colour.convert(mode)
    path = tmp_path / ("a.tif" if mode in ("F", "CMYK", "YCbCr") else "a.png")
    # Uncompressed, Pillow 12 writes a YCbCr file that it cannot read.
    image.save(path, **({"compression": "tiff_lzw"} if mode == "YCbCr" else {}))
    found, _ = everything(path)
    assert found.shape == (1, channels, 3, 2)
    if mode == "I;16":
        expected = np.asarray(image) / 65535 * 2 - 1
    elif mode == "F":
        expected = np.asarray(image) / 255.0 * 2 - 1  # an image of numbers up to 255
    else:
        plain = image.convert("L" if channels == 1 else "RGB")
        expected = np.moveaxis(np.asarray(plain).reshape(3, 2, channels), 2, 0) / 255.0 * 2 - 1
    rounding = 2.1 / 255 if mode == "YCbCr" else 3e-7  # libtiff converts to RGB by its own table
    assert_allclose(found[0], np.broadcast_to(expected, found[0].shape), atol=rounding)


def test_transparency_shows_white(tmp_path):
    values = pixels(4, 4, 4)
    values[..., 3] = np.arange(16).reshape(4, 4) * 17
    Image.fromarray(values).save(tmp_path / "a.png")
    alpha = values[..., 3:] / 255
    seen = values[..., :3] * alpha + 255 * (1 - alpha)
    assert_allclose(everything(tmp_path)[0], scaled(seen[None]), atol=1.01 * 2 / 255)
    assert everything(tmp_path)[0][0, :, 0, 0].tolist() == [1, 1, 1], "wholly transparent"
    assert_allclose(everything(tmp_path)[0][0, :, 3, 3], values[3, 3, :3] / 127.5 - 1, atol=2e-7)
    assert open_images(tmp_path).about()["transparency"] == "over white"


def test_a_photograph_is_turned_as_its_camera_noted(tmp_path):
    values = pixels(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    assert_allclose(everything(tmp_path)[0], scaled(np.rot90(values, -1)[None]), atol=2e-7)


def test_grey_follows_colour_but_not_the_other_way_round(tmp_path):
    colour, grey = pixels(4, 4, 3), pixels(4, 4)
    Image.fromarray(colour).save(tmp_path / "b.png")
    Image.fromarray(grey).save(tmp_path / "c.png")
    images, _ = everything(tmp_path)
    assert_allclose(images, scaled(np.stack([colour, np.repeat(grey[..., None], 3, axis=2)])), atol=2e-7)
    Image.fromarray(grey).save(tmp_path / "a.png")
    refused(r"b\.png is in colour but .*a\.png is grey", tmp_path)


def test_images_of_several_sizes_need_a_size(tmp_path):
    Image.fromarray(pixels(8, 12, 3)).save(tmp_path / "a.png")
    Image.fromarray(pixels(8, 12, 3)).save(tmp_path / "b.png")
    Image.fromarray(pixels(16, 8, 3)).save(tmp_path / "c.png")
    refused(r"a\.png has 12 x 8 pixels but .*c\.png has 8 x 16; choose one with size", tmp_path)
    images, _ = everything(tmp_path, size=8)
    assert images.shape == (3, 3, 8, 8)


def test_the_central_square_is_kept_as_it_is_where_it_has_the_size():
    values = pixels(2, 6, 11, 3)
    assert_allclose(everything(values, size=6)[0], scaled(values[:, :, 2:8]), atol=2e-7)
    assert_allclose(
        everything(values.transpose(0, 2, 1, 3), size=6)[0], scaled(values.transpose(0, 2, 1, 3)[:, 2:8]), atol=2e-7
    )


def test_resizing_agrees_with_pillow_and_does_not_alias():
    values = np.random.default_rng(0).random((1, 48, 48)).astype(np.float32)
    small = Image.fromarray(values[0]).resize((20, 20), Image.Resampling.BICUBIC)
    assert_allclose(everything(values, size=20)[0][0, 0], np.asarray(small) * 2 - 1, atol=4e-6)
    checks = np.indices((64, 64)).sum(axis=0)[None] % 2 == 0  # the finest pattern that there is
    assert everything(checks, size=16)[0].abs().max() < 0.05


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 3), (3, 7, 5)])
def test_tiny_and_odd_images(shape, tmp_path):
    values = pixels(*shape)
    for i, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    for images in (everything(tmp_path)[0], everything(values, layout="NHW")[0]):
        assert_allclose(images, scaled(values[..., None]), atol=2e-7)
        assert spectrum_of(images).rings == min(shape[1:]) // 2 + 1


def test_labels_of_an_archive(tmp_path):
    values = pixels(5, 6, 6, 3)
    for name, labels in [
        ("labels", [0, 1, 10, 1, 0]),
        ("y", ["a", "b", "b", "b", "a"]),
        ("y", [b"u", b"v", b"u", b"v", b"u"]),
    ]:
        np.savez_compressed(tmp_path / "a.npz", x=values, **{name: np.array(labels)})
        expected = [label.decode() if isinstance(label, bytes) else str(label) for label in labels]
        assert everything(tmp_path / "a.npz", batch=2)[1] == expected
        assert open_images(tmp_path / "a.npz").classes == tuple(sorted(set(expected)))
    for labels in (np.zeros(4, int), np.zeros((5, 2), int), np.zeros(5)):
        np.savez(tmp_path / "a.npz", x=values, labels=labels)
        refused("labels are one whole number or text for each of the 5 images", tmp_path / "a.npz")


def test_the_array_of_an_archive_is_chosen(tmp_path):
    one, two = pixels(2, 6, 6), pixels(3, 6, 6, seed=1)
    np.savez(tmp_path / "a.npz", first=one, flat=np.zeros((4, 4)))
    assert open_images(tmp_path / "a.npz", layout="NHW").count == 2
    np.savez(tmp_path / "a.npz", first=one, second=two)
    refused(r"it holds first \(2, 6, 6\), second \(3, 6, 6\): choose one with key", tmp_path / "a.npz")
    refused("is 'third'; it holds first", tmp_path / "a.npz", key="third")
    assert_allclose(everything(tmp_path / "a.npz", key="second", layout="NHW")[0], scaled(two[..., None]), atol=2e-7)
    np.savez(tmp_path / "a.npz", data=one, x=two)
    assert open_images(tmp_path / "a.npz", layout="NHW").count == 3


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_needs_the_memory_of_a_batch(save, tmp_path):
    save(tmp_path / "a.npz", pixels(2000, 32, 32))

    def peak(batch):
        tracemalloc.start()
        for _ in open_images(tmp_path / "a.npz", batch=batch):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(10) < 700_000  # the array has 2 MB, as float32 8 MB


def test_large_images_come_in_smaller_batches(monkeypatch):
    monkeypatch.setattr("sigmatune.spectra.sources._MOST_VALUES", 300)
    assert [len(images) for images, _ in open_images(pixels(5, 10, 10), batch=64)] == [3, 2]
    assert [len(images) for images, _ in open_images(pixels(2, 30, 30), batch=64)] == [1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(value, tmp_path):
    values = np.zeros((9, 6, 6), np.float32)
    values[7, 2, 3] = value
    refused("image 7 of the array holds NaN or an infinite value", values, batch=4)
    refused("image 7 of the tensor holds", torch.from_numpy(values))
    np.savez(tmp_path / "a.npz", values)
    refused(r"image 7 of arr_0 of .*a\.npz holds", tmp_path / "a.npz", batch=3)
    Image.fromarray(values[7]).save(tmp_path / "b.tif")
    refused(r"b\.tif holds NaN", tmp_path)
    refused("image 0 of the array holds", np.full((1, 6, 6), 1e300))


def test_damaged_files_are_named(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(pixels(64, 64, 3)).save(whole, "PNG")
    for name, data in [("a.png", b""), ("a.png", b"no image"), ("a.png", whole.getvalue()[:5000]), ("a.npy", b""),
                       ("a.npy", b"\x93NUMPY\x01"), ("a.npz", b""), ("a.npz", b"PK\x03\x04")]:  # fmt: skip
        (tmp_path / name).write_bytes(data)
        refused(rf"{name} cannot be read \(", tmp_path / name)
    np.savez_compressed(tmp_path / "b.npz", pixels(50, 32, 32))
    data = bytearray((tmp_path / "b.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "b.npz").write_bytes(data)
    refused(r"b\.npz cannot be read \(", tmp_path / "b.npz")


def test_python_objects_are_never_read(tmp_path):
    objects = np.array([[[{}]]], dtype=object)
    np.savez(tmp_path / "a.npz", objects)
    refused("Python objects, which are never read", tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", objects)
    refused(r"a\.npy holds Python objects \(a pickle\)", tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", x=pixels(1, 6, 6), labels=np.array([{}], dtype=object))
    refused("labels are one whole number or text", tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", np.asfortranarray(pixels(2, 6, 6)))
    refused("stored by columns", tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("notes.txt", "nothing here")
    refused("it holds nothing", tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("source", "how", "says"),
    [
        (np.zeros((4, 4)), {}, r"has shape \(4, 4\); images are \(n, H, W\)"),
        (np.zeros((0, 4, 4)), {}, "none empty"),
        (torch.zeros(()), {}, r"has shape \(\)"),
        (np.zeros((2, 3, 2, 3)), {}, "ambiguous; pass layout='NHWC' or layout='NCHW'"),
        (np.zeros((32, 32, 3)), {}, "one image or several"),
        (np.zeros((3, 32, 32)), {}, "one image or several"),
        (np.zeros((2, 5, 5)), {"layout": "NCHW"}, "does not fit: it has 4 axes"),
        (np.zeros((2, 5, 5)), {"layout": "HWN"}, "layout must be one of auto, NHW, NHWC, NCHW"),
        (
            np.zeros((2, 5, 5), np.int64),
            {},
            "holds int64; images are bool, uint8, uint16 or floating point: convert it",
        ),
        (np.zeros((2, 5, 5)), {"values": "0..2"}, "values must be one of auto, 0..1, -1..1"),
        (np.zeros((2, 5, 5), complex), {}, "holds complex128"),
        (torch.zeros((2, 5, 5), dtype=torch.int32), {}, "holds int32"),
        (np.zeros((2, 5, 5)), {"value_range": (1, -1)}, "value_range must rise"),
        (np.zeros((2, 5, 5)), {"value_range": 1}, "value_range must be two numbers"),
        (np.zeros((2, 5, 5)), {"value_range": (0, np.inf)}, "value_range must be a finite number"),
        (np.zeros((2, 5, 5)), {"size": 0}, "size must be a whole number of at least 1"),
        (np.zeros((2, 5, 5)), {"batch": 0}, "batch must be a whole number of at least 1"),
        (np.zeros((2, 5, 5)), {"key": "x"}, "key chooses an array of an .npz file"),
        ([1, 2], {}, "not from list"),
        (None, {}, "not from NoneType"),
        ("/nowhere/at/all", {}, "there is no /nowhere/at/all"),
    ],
)
def test_what_is_no_source_is_refused_in_one_sentence(source, how, says):
    refused(says, source, **how)


def test_folders_and_files_without_images_are_refused(folder):
    root, _ = folder
    (root / "empty").mkdir()
    refused("empty holds no image; known are the types that Pillow reads", root / "empty")
    (root / "empty" / "notes.txt").write_text("no image")
    refused(r"empty holds no image \(left out: 1 type .txt\)", root / "empty")
    refused("readme.txt is of an unknown type; known are", root / "readme.txt")
    refused("layout is for arrays", root, layout="NHWC")


@pytest.mark.parametrize(
    "shape", [(2, 8, 8, 3), (2, 3, 8, 8), (2, 1, 8, 8), (2, 8, 8, 1), (2, 16, 8, 8), (4, 1, 1, 1), (2, 8, 8)]
)
def test_the_layout_is_told_from_the_shape(shape):
    values = pixels(*shape)
    images, _ = everything(values)
    last = len(shape) == 4 and shape[-1] <= 4 < shape[1]
    nhwc = values[..., None] if len(shape) == 3 else values if last else values.transpose(0, 2, 3, 1)
    assert_allclose(images, scaled(nhwc), atol=2e-7)


def test_measure_takes_all_and_every_class_in_one_pass(folder):
    root, values = folder
    calls = []
    measured = measure(root, by_class=True, batch=2, window="hann", progress=lambda *call: calls.append(call))
    images = torch.from_numpy(scaled(values)).float()
    assert_allclose(measured.all.power, spectrum_of(images, window="hann").power, rtol=1e-5)
    assert sorted(measured.classes) == ["cats", "dogs"]
    for label, part in (("cats", images[:3]), ("dogs", images[3:])):
        expected = spectrum_of(part, window="hann")
        assert measured.classes[label].images == len(part)
        assert_allclose(measured.classes[label].power, expected.power, rtol=1e-5)
        assert_allclose(measured.classes[label].centred, expected.centred, rtol=1e-4)
    together = sum(s.power * s.images for s in measured.classes.values()) / 7
    assert_allclose(together, measured.all.power, rtol=1e-6)  # float32 rounds differently in batches of other sizes
    assert calls == [("spectrum", done, 7) for done in (2, 4, 6, 7)]
    assert measure(root).classes == {}


def test_measure_passes_options_on_and_refuses_others(folder):
    root, values = folder
    spectrum = measure(values, value_range=(0, 1), size=4, corners=True, transform="dct", per_channel=True).all
    assert spectrum.size == (4, 4)
    assert spectrum.power.shape == (3, spectrum.rings)
    assert spectrum.measured == {"corners": True, "window": None, "transform": "dct"}
    assert 0.4 < spectrum.mean < 0.6
    with pytest.raises(SigmaTuneError, match="no option of a spectrum 'widnow'; did you mean 'window'"):
        measure(values, widnow="hann")
    with pytest.raises(SigmaTuneError, match="the array has no class labels"):
        measure(values, by_class=True)
    assert_array_equal(measure(root).all.power, measure(root, batch=256).all.power)
