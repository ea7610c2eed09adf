"""Copies of images under perturbations that should hardly change a quality score."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from PIL import Image, ImageOps

from ..datasets.dataset import QualityDataset
from ..datasets.images import read_image

JPEG_QUALITY = 75  # Pillow's default
_RESIZED, _CROPPED = 0.75, 0.9  # of each side


def _resized(picture: Image.Image) -> Image.Image:
    size = [max(1, round(side * _RESIZED)) for side in picture.size]
    return picture.resize(size, Image.Resampling.LANCZOS)


def _cropped(picture: Image.Image) -> Image.Image:
    margins = [round(side * (1 - _CROPPED) / 2) for side in picture.size]
    (left, top), (right, bottom) = margins, (s - m for s, m in zip(picture.size, margins))  # noqa: B905
    return picture.crop((left, top, right, bottom))


# The names include the strength, as they are part of cache keys.
PERTURBATIONS = {
    "mirrored": ImageOps.mirror,
    "resized to 75%": _resized,
    f"JPEG, quality {JPEG_QUALITY}": lambda picture: picture,
    "cropped to 90%": _cropped,
}


@contextlib.contextmanager
def perturbed(photographs: QualityDataset) -> Iterator[pd.DataFrame]:
    """Rows as in ``photographs.table``, one per image and perturbation.

    ``change`` names the perturbation; ``path`` is a temporary file that exists within the context;
    ``hash`` is the image's hash followed by the perturbation's name.
    """
    rows: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="dpiqa-changed-") as folder:
        for place, row in enumerate(photographs.table.to_dict("records")):
            picture = Image.fromarray(read_image(row["path"]))
            for change, function in PERTURBATIONS.items():
                suffix = ".jpg" if change.startswith("JPEG") else ".png"
                path = Path(folder) / f"{place}-{len(rows)}{suffix}"
                copy = function(picture)
                copy.save(path, **_saving(suffix))
                size = {"width": copy.width, "height": copy.height}
                own = {"change": change, "path": path, "hash": f"{row['hash']}, {change}"}
                rows.append({**row, **size, **own})
        yield pd.DataFrame(rows, columns=[*photographs.table.columns, "change"])


def with_rows(dataset: QualityDataset, table: pd.DataFrame) -> QualityDataset:
    """A dataset of the images in ``table``, read as those of ``dataset``."""
    manifest = dataclasses.replace(dataset.manifest, table=table.reset_index(drop=True))
    return QualityDataset(manifest, "all", dataset.image_size)


def _saving(suffix: str) -> dict:
    return {"quality": JPEG_QUALITY} if suffix == ".jpg" else {"compress_level": 1}
