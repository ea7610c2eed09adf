"""Damaged copies of a dataset's photographs: what distillation takes as ``unlabelled``."""

from pathlib import Path

import numpy as np
from PIL import Image

from ..core.errors import LabError
from ..core.files import atomic_path
from ..core.paths import user_path
from ..core.progress import progress_bar
from .dataset import QualityDataset
from .distortions import draw_distortions, to_floats, to_pillow
from .images import read_image


def write_distorted_copies(
    dataset: QualityDataset, folder: str | Path, count: int = 500, seed: int = 0
) -> Path:
    """Write ``count`` photographs of a dataset, each with one or two damages, as PNG files.

    A dataset holds hardly all that photographs suffer from; of these copies a teacher can tell its
    student. Their names say the damage. Copies that are there already are not written again.

    Args:
        dataset: a part of it, ``load_dataset(..., split="train")``: copies of test photographs
            would flatter. Photographs are squashed to its ``image_size`` where it has one.
        count: drawn without repetition by ``seed``, which decides the damages too.

    Returns:
        The folder.

    Raises:
        LabError: fewer photographs than ``count``.
    """
    folder = user_path(folder)
    if not 1 <= count <= len(dataset):
        raise LabError(
            f"count must be 1 to {len(dataset)}, the photographs there are; got {count}."
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:count])
    paths = list(dataset.table["path"].iloc[chosen])
    for i, path in zip(chosen.tolist(), progress_bar(paths, "damaged copies"), strict=True):
        rng = np.random.default_rng([seed, i])
        whole = to_floats(Image.fromarray(read_image(path, dataset.image_size)))
        image, damages = draw_distortions(whole, int(rng.integers(1, 3)), rng)
        copy = folder / f"{i:06d}-{damages.replace(':', '_')}.png"
        if not copy.is_file():
            with atomic_path(copy) as temporary:
                to_pillow(image).save(temporary, "PNG")
    return folder
