"""Photographs as they are found, as correct RGB."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.ImageOps
import torch
import torch.nn.functional as F
from PIL import Image

from ..core.errors import LabError
from .pillow_settings import load_own_pillow

# Whatever others set in Pillow, files are read by these modules, with their own switches.
_OWN = load_own_pillow()
# 16 times the largest dataset photograph; beyond it a file is more likely an attack than a picture.
MAX_PIXELS = 200_000_000
_OWN.Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow raises at twice its limit
# What these suffixes stand for. Pillow knows others too, one of which starts another program.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}


def read_image(source: Path | str | Image.Image, size: int | None = None) -> np.ndarray:
    """A photograph as RGB, upright.

    EXIF rotation is applied; greyscale, palette and CMYK pictures are converted; 16-bit ones are
    scaled to 8 bits; transparent ones are laid on white; of animations the first frame is taken.

    Args:
        source: a file or a PIL image.
        size: side in pixels of the square that the whole picture is squashed to, aspect ratio not
            kept, by an antialiased bilinear filter (the paper's input); ``None`` keeps its own.

    Returns:
        (height, width, 3) uint8.

    Raises:
        LabError: the file is missing, empty, truncated or no picture, with its name and the cause.
    """
    if isinstance(source, Image.Image):
        return np.asarray(_resize(_rgb(source, PIL), size))
    with open_image(source) as picture:
        return np.asarray(_resize(_rgb(picture, _OWN), size))


def read_thumbnail(path: Path | str, side: int) -> np.ndarray:
    """A photograph as a small grey square, upright, aspect ratio not kept: (side, side) uint8.

    A JPEG is decoded at a fraction of its size, which is several times faster.

    Raises:
        LabError: as ``read_image``.
    """
    with open_image(path) as picture:
        picture.draft("L", (2 * side, 2 * side))
        return np.asarray(_resize(_rgb(picture, _OWN).convert("L"), side))


@contextlib.contextmanager
def open_image(path: Path | str) -> Iterator[Image.Image]:
    """A photograph's file for the length of the block: its size is known, its pixels not yet read.

    The picture is one of ``own_pillow``: what other libraries set in Pillow does not count. Hand
    its pixels on, not the picture.

    Raises:
        LabError: as ``read_image``; errors of the block itself count as the file's.
    """
    path = Path(path)
    try:
        if not path.is_file() and not path.is_dir() and path.exists():
            raise LabError(f"{path}: it is no file but a pipe or a device.")  # might never end
        with _OWN.Image.open(path, formats=_FORMATS) as picture:
            yield picture
    except LabError:
        raise
    except FileNotFoundError:
        raise LabError(f"{path}: no such file.") from None
    except Exception as error:  # decoders raise many kinds for a broken file
        raise LabError(f"{path}: not a readable photograph ({_cause(path, error)}).") from error


def unit_range(pixels: torch.Tensor, device: torch.device | str | None = None) -> torch.Tensor:
    """uint8 of any shape to float32 in [0,1] on ``device``; ``None``: where they are."""
    return pixels.to(device, non_blocking=True).float().div(255)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(height, width, 3) uint8 to (3, height, width) float32 in [0,1]."""
    return unit_range(torch.from_numpy(np.array(pixels)).permute(2, 0, 1).contiguous())


def half_size(images: torch.Tensor) -> torch.Tensor:
    """(b, c, h, w) to (b, c, h//2, w//2), by an antialiased bicubic filter."""
    half = [side // 2 for side in images.shape[2:]]
    return F.interpolate(images, half, mode="bicubic", antialias=True, align_corners=False)


def _rgb(picture: Image.Image, pillow: ModuleType) -> Image.Image:
    """``picture`` as RGB, upright; ``pillow``: the package that it is of."""
    picture = pillow.ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        return pillow.Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8)).convert(
            "RGB"
        )
    if picture.mode in ("I", "F"):
        values = np.asarray(picture, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("pixels that are NaN or infinite")
        # 32-bit integers hold 16-bit data in practice; floats are in [0,1] unless they exceed it.
        top = 65535 if picture.mode == "I" else (1 if values.max() <= 1 else 255)
        scaled = (values / top * 255).clip(0, 255).round().astype(np.uint8)
        return pillow.Image.fromarray(scaled).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = pillow.Image.new("RGBA", picture.size, "white")
        return pillow.Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def _resize(picture: Image.Image, size: int | None) -> Image.Image:
    if size is None or picture.size == (size, size):
        return picture
    return picture.resize((size, size), Image.Resampling.BILINEAR)


def _cause(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "it is a folder"
    with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
        start = file.read(512)
        if not start:
            return "the file is empty"
        if start.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
            return "it is PostScript, which is a program and not run"
        if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
            return "it is a web page, not a picture: the download failed"
    return str(error).replace(f" {str(path)!r}", "") or type(error).__name__
