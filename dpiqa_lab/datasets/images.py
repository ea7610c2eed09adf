"""Image files read as upright RGB."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.ImageOps
import torch
import torch.nn.functional as F
from PIL import Image

from ..core.errors import LabError


def _load_own_pillow() -> ModuleType:
    """A second instance of Pillow, whose settings no other library can change.

    Pillow's settings are variables of its modules: ``ImageFile.LOAD_TRUNCATED_IMAGES`` lets half of
    an image pass as a whole one, ``Image.MAX_IMAGE_PIXELS`` lets any size pass or none. Any library
    may set them at any time, no call can override them, and changing them around a read would
    affect other threads. The second instance takes about 30 ms and shares the compiled code.
    Pictures of the two instances must not meet in one operation.
    """
    name = f"{__package__}._own_pillow"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, PIL.__file__, submodule_search_locations=list(PIL.__path__)
        )
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        spec.loader.exec_module(package)
    for module in ("Image", "ImageOps"):
        importlib.import_module(f"{name}.{module}")
    return sys.modules[name]


_OWN = _load_own_pillow()
# 16 times the largest image of a dataset; a larger file is more likely an attack.
MAX_PIXELS = 200_000_000
_OWN.Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow raises at twice its limit
# Pillow reads further formats, one of which starts another program.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}


def read_image(source: Path | str | Image.Image, size: int | None = None) -> np.ndarray:
    """An image as upright RGB.

    EXIF rotation is applied; greyscale, palette and CMYK images are converted; 16-bit ones are
    scaled to 8 bits; transparent ones are laid on white; animations give their first frame.

    Args:
        source: a file or a PIL image.
        size: side in pixels of the square to which the image is resized, regardless of its aspect
            ratio, by an antialiased bilinear filter (the paper's input); ``None``: not resized.

    Returns:
        (height, width, 3) uint8.

    Raises:
        LabError: the file is missing, empty, truncated or no image; the message gives the cause.
    """
    if isinstance(source, Image.Image):
        return np.asarray(_resize(_rgb(source, PIL), size))
    with open_image(source) as picture:
        return np.asarray(_resize(_rgb(picture, _OWN), size))


def read_thumbnail(path: Path | str, side: int) -> np.ndarray:
    """An image as a small upright grey square, regardless of its aspect ratio: (side, side) uint8.

    A JPEG is decoded at a fraction of its size, which is several times faster.

    Raises:
        LabError: as ``read_image``.
    """
    with open_image(path) as picture:
        picture.draft("L", (2 * side, 2 * side))
        return np.asarray(_resize(_rgb(picture, _OWN).convert("L"), side))


@contextlib.contextmanager
def open_image(path: Path | str) -> Iterator[Image.Image]:
    """Context of an opened image file: its size is known, its pixels are not yet read.

    The picture belongs to the lab's own instance of Pillow: pass on its pixels, not the picture.

    Raises:
        LabError: as ``read_image``; errors within the context count as the file's.
    """
    path = Path(path)
    try:
        if not path.is_file() and not path.is_dir() and path.exists():
            raise LabError(f"{path}: not a file but a pipe or a device.")  # might never end
        with _OWN.Image.open(path, formats=_FORMATS) as picture:
            yield picture
    except LabError:
        raise
    except FileNotFoundError:
        raise LabError(f"{path}: no such file.") from None
    except Exception as error:  # decoders raise many types for a broken file
        raise LabError(f"{path}: not a readable photograph ({_cause(path, error)}).") from error


def unit_range(pixels: torch.Tensor, device: torch.device | str | None = None) -> torch.Tensor:
    """uint8 of any shape to float32 in [0,1] on ``device``; ``None``: on theirs."""
    return pixels.to(device, non_blocking=True).float().div(255)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(height, width, 3) uint8 to (3, height, width) float32 in [0,1]."""
    return unit_range(torch.from_numpy(np.array(pixels)).permute(2, 0, 1).contiguous())


def half_size(images: torch.Tensor) -> torch.Tensor:
    """(b, c, h, w) to (b, c, h//2, w//2), by an antialiased bicubic filter."""
    half = [side // 2 for side in images.shape[2:]]
    return F.interpolate(images, half, mode="bicubic", antialias=True, align_corners=False)


def _rgb(picture: Image.Image, pillow: ModuleType) -> Image.Image:
    """``picture`` as upright RGB; ``pillow``: the package it belongs to."""
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
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        start = file.read(512)
        if not start:
            return "the file is empty"
        if start.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
            return "it is PostScript, which is a program and is not run"
        if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
            return "it is a web page, not a picture: the download failed"
    return str(error).replace(f" {str(path)!r}", "") or type(error).__name__
