"""Files that claim to be photographs: broken ones, and odd ones that are whole."""

import io
import os
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

COLOUR = (200, 100, 50)


def _bytes(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _noise(kind):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    return _bytes(Image.fromarray(pixels), kind)


def _chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _png(width, height, *chunks):
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IEND", b"")


def _text_bomb():
    text = zlib.compress(b"a" * 4_000_000)
    return _png(1, 1, _chunk(b"zTXt", b"x\0\0" + text), _chunk(b"IDAT", zlib.compress(b"\0abc")))


def _bmp_bomb():
    content = bytearray(_bytes(Image.new("RGB", (4, 4)), "BMP"))
    content[18:26] = struct.pack("<ii", 50_000, 50_000)
    return bytes(content)


def _nan():
    return _bytes(Image.fromarray(np.array([[0.5, np.nan]], np.float32)), "TIFF")


def _wrong_sum():
    content = bytearray(_noise("PNG"))
    content[60] ^= 255
    return bytes(content)


def _loop(path):
    path.symlink_to(path.name)


# Name of the file, what makes it (its bytes, or a function of its path), what the lab says.
BROKEN = [
    ("truncated.jpg", _noise("JPEG")[:-500], "truncated"),
    ("truncated.png", _noise("PNG")[:3000], "truncated"),
    ("truncated.webp", _noise("WEBP")[:300], "not a readable photograph"),
    ("truncated.tif", _noise("TIFF")[:3000], "not a readable photograph"),
    ("truncated.bmp", _noise("BMP")[:3000], "truncated"),
    ("header-only.jpg", _noise("JPEG")[:20], "not a readable photograph"),
    ("header-only.gif", b"GIF89a\x01\0\x01\0\0\0\0", "not a readable photograph"),
    ("no-pixels.png", _png(4, 4), "not a readable photograph"),
    ("wrong-checksum.png", _wrong_sum(), "not a readable photograph"),
    ("empty.jpg", b"", "the file is empty"),
    ("page.jpg", b"\n<!DOCTYPE html><html>404</html>", "web page"),
    ("text.jpg", b"no picture at all", "cannot identify"),
    ("program.png", b"\x7fELF" + bytes(200), "cannot identify"),
    ("postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n", "not run"),
    ("bomb.png", _png(60_000, 60_000, _chunk(b"IDAT", b"")), "decompression bomb"),
    ("bomb.bmp", _bmp_bomb(), "decompression bomb"),
    ("bomb-in-text.png", _text_bomb(), "too large"),
    ("nan.tif", _nan(), "NaN or infinite"),
    ("folder.jpg", lambda path: path.mkdir(), "it is a folder"),
    ("pipe.jpg", os.mkfifo, "a pipe or a device"),
    ("itself.png", _loop, "symbolic links"),
    ("to-nothing.png", lambda path: path.symlink_to("gone.png"), "no such file"),
    ("random.webp", np.random.default_rng(1).bytes(5000), "cannot identify"),
]


def _exif_rotated():
    picture = Image.new("RGB", (20, 10), COLOUR)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by a quarter
    return _bytes(picture, "PNG", exif=exif)


def _broken_exif():
    return _bytes(Image.new("RGB", (10, 20), COLOUR), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")


def _animated(kind):
    frames = [Image.new("RGB", (10, 20), COLOUR), Image.new("RGB", (10, 20), "blue")]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return _bytes(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)


def _palette():
    picture = Image.new("RGB", (10, 20), COLOUR).quantize(4)
    return _bytes(picture, "PNG")


def _many_texts():
    info = PngImagePlugin.PngInfo()
    for i in range(50):
        info.add_text(f"<script>{i}", "alert(1)")
    return _bytes(Image.new("RGB", (10, 20), COLOUR), "PNG", pnginfo=info)


_WHOLE = Image.new("RGB", (10, 20), COLOUR)
_ORANGE16 = np.full((20, 10), 257 * 100, np.uint16)
# Name of the file, its bytes, height and width, the colour everywhere, how far off it may be.
ODD = [
    ("one-pixel.png", _bytes(Image.new("RGB", (1, 1), COLOUR), "PNG"), (1, 1), COLOUR, 0),
    ("wide.png", _bytes(Image.new("RGB", (20_000, 1), COLOUR), "PNG"), (1, 20_000), COLOUR, 0),
    ("tall.jpg", _bytes(Image.new("RGB", (1, 20_000), COLOUR), "JPEG"), (20_000, 1), COLOUR, 3),
    ("sixteen.png", _bytes(Image.fromarray(_ORANGE16), "PNG"), (20, 10), (100,) * 3, 0),
    ("sixteen.tif", _bytes(Image.fromarray(_ORANGE16), "TIFF"), (20, 10), (100,) * 3, 0),
    ("cmyk.jpg", _bytes(Image.new("CMYK", (10, 20), (0, 255, 255, 0)), "JPEG"), (20, 10),
     (255, 0, 0), 4),
    ("palette.png", _palette(), (20, 10), COLOUR, 2),
    ("bilevel.png", _bytes(Image.new("1", (10, 20), 1), "PNG"), (20, 10), (255,) * 3, 0),
    ("grey.png", _bytes(Image.new("L", (10, 20), 77), "PNG"), (20, 10), (77,) * 3, 0),
    ("clear.png", _bytes(Image.new("RGBA", (10, 20), (9, 9, 9, 0)), "PNG"), (20, 10),
     (255,) * 3, 0),
    ("animated.gif", _animated("GIF"), (20, 10), COLOUR, 2),
    ("animated.webp", _animated("WEBP"), (20, 10), COLOUR, 0),
    ("animated.png", _animated("PNG"), (20, 10), COLOUR, 0),
    ("rotated.png", _exif_rotated(), (20, 10), COLOUR, 0),
    ("broken-exif.jpg", _broken_exif(), (20, 10), COLOUR, 3),
    ("two-in-one.jpg", _animated("MPO"), (20, 10), COLOUR, 3),
    ("progressive.jpg", _bytes(_WHOLE, "JPEG", progressive=True), (20, 10), COLOUR, 3),
    ("png-inside.jpg", _bytes(_WHOLE, "PNG"), (20, 10), COLOUR, 0),
    ("UPPER.PNG", _bytes(_WHOLE, "PNG"), (20, 10), COLOUR, 0),
    ("scripts-in-text.png", _many_texts(), (20, 10), COLOUR, 0),
]  # fmt: skip


def write(path, content):
    """The file, from its bytes or by a function of its path."""
    content(path) if callable(content) else path.write_bytes(content)
