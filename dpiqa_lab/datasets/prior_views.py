"""Distorted views of images for training the tiny prior; no scores are involved."""

import contextlib
import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from ..core.errors import LabError, listing
from ..core.files import atomic_path, drop_leftovers, file_hash, json_hash, write_json
from ..core.locks import folder_lock
from ..core.paths import user_path
from ..core.progress import progress_bar
from .distortions import draw_distortions, to_floats, to_pillow
from .images import SUFFIXES, open_image, read_image

# Numbers of distortions of a view: two views in five have none.
_COUNTS = (0, 0, 1, 1, 2)
# One image in twenty is held out for validation.
_HELD_OUT = 20


class Views(NamedTuple):
    """Views of images.

    pixels: (n, size, size, 3) uint8, mapped from the disk. table: one row per view: ``photograph``,
    ``damage`` such as ``defocus:0.42+jpeg:0.80`` or ``none``, ``luminance`` of the undistorted view
    in [0, 1], and ``split`` (train or val, by image). key: hash of images and settings.
    photographs: one row per image: name, sha256 of its file and split.
    """

    pixels: np.ndarray
    table: pd.DataFrame
    key: str
    photographs: pd.DataFrame

    def positions(self, split: str) -> np.ndarray:
        """Row numbers of a split."""
        return np.flatnonzero(self.table["split"] == split)


def list_photographs(
    folder: Path | str, names: Path | str | None = None, pattern: str = "*"
) -> list[Path]:
    """Images in a folder and its sub-folders, sorted by path.

    Args:
        names: a CSV whose first column holds file names; ``None``: all images.
        pattern: of file names, such as ``ss03*``.

    Raises:
        LabError: no such folder or CSV, or fewer than 40 images match.
    """
    folder = user_path(folder)
    if not folder.is_dir():
        raise LabError(f"no folder {folder}: set photographs to a folder of photographs.")
    found = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
    if names is not None:
        path = user_path(names)
        if not path.is_file():
            raise LabError(f"no file {path}: set names to a CSV with file names, or to None.")
        try:
            wanted = {str(name).casefold() for name in pd.read_csv(path).iloc[:, 0]}
        except (ValueError, OSError) as error:
            raise LabError(f"{path}: not a readable table ({error}).") from error
        found = [p for p in found if p.name.casefold() in wanted]
    chosen = sorted(p for p in found if fnmatch(p.name, pattern))
    if len(chosen) < 2 * _HELD_OUT:
        raise LabError(
            f"{folder} holds {len(chosen)} photographs that match {pattern!r} (of {len(found)} "
            f"that are named); {2 * _HELD_OUT} or more are needed."
        )
    return chosen


def make_views(
    photographs: Sequence[Path],
    cache: Path,
    views: int = 3,
    size: int = 256,
    seed: int = 0,
    workers: int = 2,
) -> Views:
    """``views`` views of every image, cached in a folder under ``cache``.

    A view is a square crop, half of them at the original resolution and half shrunk from any larger
    side, mirrored or not, with 0 to 2 distortions. It depends on the seed and the position in the
    list, not on the number of workers.

    Raises:
        LabError: images are unreadable or smaller than ``size`` pixels; all are listed.
    """
    key = {
        "photographs": [(p.name, file_hash(p)) for p in photographs],
        "views": views,
        "size": size,
        "seed": seed,
        "counts": _COUNTS,
    }
    folder = cache / json_hash(key)[:16]
    with folder_lock(folder, wait=True, what="views"):
        if not (folder / "views.csv").is_file():
            _refuse_small(photographs, size)
            write_json(folder / "key.json", key)
            _write(folder, _Source(photographs, views, size, seed), workers)
    try:
        return Views(
            np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False),
            pd.read_csv(folder / "views.csv", keep_default_na=False),
            folder.name,
            pd.DataFrame(key["photographs"], columns=["name", "sha256"]).assign(
                split=[_split(i) for i in range(len(photographs))]
            ),
        )
    except (OSError, ValueError) as error:
        raise LabError(
            f"{folder}: damaged views ({error}); delete this folder to make them again."
        ) from error


def _split(i: int) -> str:
    return "val" if i % _HELD_OUT == 0 else "train"


def _refuse_small(photographs: Sequence[Path], size: int) -> None:
    small = []
    for path in photographs:
        # Files that cannot be opened are listed when their pixels are read.
        with contextlib.suppress(LabError), open_image(path) as picture:
            if min(picture.size) < size:
                small.append(f"{path} is {picture.width}x{picture.height} pixels")
    if small:
        raise LabError(
            f"photographs of {size}x{size} pixels and more are needed; leave these out by names or "
            f"pattern:\n{listing(small)}"
        )


def _write(folder: Path, source: "_Source", workers: int) -> None:
    loader = DataLoader(source, batch_size=None, num_workers=workers)
    shape = (len(source) * source.views, source.size, source.size, 3)
    rows: list[dict] = []
    problems: list[str] = []
    drop_leftovers(folder)
    with atomic_path(folder / "pixels.npy") as temporary:
        pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        if hasattr(os, "posix_fallocate"):  # else a full disk kills the process, without a message
            with temporary.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        for images, made in progress_bar(loader, "making views", len(source)):
            if images is None:
                problems.append(made)
                continue
            pixels[len(rows) : len(rows) + len(made)] = images
            rows += made
        pixels.flush()
        if problems:
            raise LabError(f"photographs that cannot be read:\n{listing(problems)}")
    # Last: its presence marks complete pixels.
    with atomic_path(folder / "views.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


class _Source(Dataset):
    def __init__(self, photographs: Sequence[Path], views: int, size: int, seed: int) -> None:
        self.photographs = photographs
        self.views = views
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, i: int) -> tuple[np.ndarray, list[dict]] | tuple[None, str]:
        path = self.photographs[i]
        try:
            whole = Image.fromarray(read_image(path))
        except LabError as error:  # a loader's process would wrap it in its own traceback
            return None, str(error)
        made = [
            self._view(whole, np.random.default_rng([self.seed, i, k])) for k in range(self.views)
        ]
        images = np.stack([image for image, _ in made])
        return images, [{"photograph": path.name, **row, "split": _split(i)} for _, row in made]

    def _view(self, whole: Image.Image, rng: np.random.Generator) -> tuple[np.ndarray, dict]:
        size, largest = self.size, min(whole.size)
        side = size if rng.random() < 0.5 else int(rng.integers(size, largest + 1))
        x, y = (int(rng.integers(free - side + 1)) for free in whole.size)
        crop = whole.crop((x, y, x + side, y + side))
        if side != size:
            crop = crop.resize((size, size), Image.Resampling.LANCZOS)
        image = to_floats(ImageOps.mirror(crop) if rng.random() < 0.5 else crop)
        damaged, damage = draw_distortions(image, int(rng.choice(_COUNTS)), rng)
        row = {"damage": damage, "luminance": round(float(image.mean()), 4)}
        return np.asarray(to_pillow(damaged)), row
