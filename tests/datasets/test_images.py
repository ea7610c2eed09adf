import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.datasets.images import read_image, to_tensor

COLOUR = (200, 100, 50)


def _saved(tmp_path, picture, name="a.png", **options):
    path = tmp_path / name
    picture.save(path, **options)
    return read_image(path)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_colour_is_kept(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    pixels = _saved(tmp_path, Image.new("RGB", (5, 4), COLOUR), f"a.{suffix}", **options)
    assert pixels.shape == (4, 5, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == COLOUR).all()


def test_greyscale_palette_and_bilevel(tmp_path):
    assert (_saved(tmp_path, Image.new("L", (4, 4), 77)) == 77).all()
    palette = Image.new("RGB", (4, 4), COLOUR).quantize(4)
    assert np.abs(_saved(tmp_path, palette).astype(int) - COLOUR).max() <= 2
    assert (_saved(tmp_path, Image.new("1", (4, 4), 1)) == 255).all()


def test_cmyk(tmp_path):
    pixels = _saved(tmp_path, Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "a.tif")
    assert (pixels == (255, 0, 0)).all()


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.array([[0, 257 * 100, 65535]], np.uint16)
    pixels = _saved(tmp_path, Image.fromarray(values))
    assert pixels[0, :, 0].tolist() == [0, 100, 255]


def test_floats_in_unit_range(tmp_path):
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    pixels = _saved(tmp_path, Image.fromarray(values), "a.tif")
    assert pixels[0, :, 1].tolist() == [0, 128, 255]


def test_transparency_is_laid_on_white(tmp_path):
    half = Image.new("RGBA", (4, 4), (*COLOUR, 128))
    expected = np.round(np.array(COLOUR) * 128 / 255 + 255 * 127 / 255)
    assert np.abs(_saved(tmp_path, half).astype(int) - expected).max() <= 1
    assert (_saved(tmp_path, Image.new("LA", (4, 4), (0, 0))) == 255).all()


def test_exif_rotation_is_applied(tmp_path):
    picture = Image.new("RGB", (6, 3), "black")
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by a quarter
    pixels = _saved(tmp_path, picture, exif=exif)
    assert pixels.shape == (6, 3, 3)
    assert pixels[0, 2].tolist() == [255, 255, 255]


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    pixels = _saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert (pixels == (255, 0, 0)).all()


def test_resize_squashes_with_antialiasing():
    stripes = np.zeros((64, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = read_image(Image.fromarray(stripes), size=16)
    assert pixels.shape == (16, 16, 3)
    # Without antialiasing one stripe would be picked: all black or all white.
    assert np.abs(pixels[4:-4, 4:-4].astype(int) - 127).max() <= 3


def test_to_tensor():
    tensor = to_tensor(np.array([[[0, 51, 255]]], np.uint8))
    assert tensor.shape == (3, 1, 1)
    assert tensor.flatten().tolist() == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"not a picture at all", "cannot identify"),
        (None, "no such file"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, content, cause):
    path = tmp_path / "x.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabError, match=rf"x\.jpg.*{cause}"):
        read_image(path)


def test_truncated_pictures_are_refused(tmp_path):
    path = tmp_path / "x.jpg"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(LabError, match=r"x\.jpg.*truncated"):
        read_image(path)


def test_a_link_to_itself_is_told(tmp_path):
    (tmp_path / "a.png").symlink_to("a.png")
    with pytest.raises(LabError, match=r"a\.png: not a readable photograph \(.*symbolic links"):
        read_image(tmp_path / "a.png")


_CUT = {  # by format, what is cut off its end: enough to lose pixels
    "JPEG": (2, 30, 0.5), "PNG": (30, 0.5), "WEBP": (2, 0.5), "TIFF": (2, 0.5), "GIF": (30, 0.5),
    "BMP": (2, 0.5),
}  # fmt: skip


@pytest.fixture
def switched(monkeypatch):
    """Pillow's switches as another library may set them, after the lab was imported."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)


@pytest.mark.parametrize(("kind", "off"), [(k, off) for k, offs in _CUT.items() for off in offs])
def test_a_cut_picture_is_refused_whatever_others_set_in_pillow(tmp_path, switched, kind, off):
    path = tmp_path / "x.jpg"  # content decides, not the name
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path, kind)
    assert read_image(path).shape == (64, 64, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: -off if off >= 1 else int(len(whole) * off)])
    if kind != "WEBP":  # the switch does what this test is about
        with Image.open(path) as picture:
            picture.load()
    with pytest.raises(LabError, match=r"x\.jpg: not a readable photograph"):
        read_image(path)
    with pytest.raises(LabError, match=r"x\.jpg: not a readable photograph"):
        read_image(path, size=8)


@pytest.mark.parametrize("limit", [None, 10, 10**15])
def test_the_limit_of_size_is_the_labs_own(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    Image.new("1", (3000, 3000)).save(tmp_path / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "large.png").shape == (3000, 3000, 3)
    content = bytearray((tmp_path / "large.png").read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(LabError, match=r"bomb\.png.*decompression bomb"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.medium
def test_the_lab_leaves_pillows_switches_alone():
    code = (
        "from PIL import Image, ImageFile\n"
        "before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES\n"
        "import dpiqa_lab.datasets.images\n"
        "assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
