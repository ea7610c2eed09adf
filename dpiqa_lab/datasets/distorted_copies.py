"""Distorted copies of a dataset's images, for ``unlabelled`` of a distillation."""

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
    """Write ``count`` images of a dataset, each with one or two distortions, as PNG files.

    File names describe the distortions. Existing copies are not written again.

    Args:
        dataset: the training split, ``load_dataset(..., split="train")``, as copies of test images
            would bias results. Images are resized to its ``image_size`` if it has one.
        count: images, drawn without repetition by ``seed``, which also draws the distortions.

    Returns:
        The folder.

    Raises:
        LabError: fewer images than ``count``.
    """
    folder = user_path(folder)
    if not 1 <= count <= len(dataset):
        raise LabError(
            f"count must be 1 to {len(dataset)}, the photographs there are; got {count}."
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:count])
    paths = list(dataset.table["path"].iloc[chosen])
    for i, path in zip(chosen.tolist(), progress_bar(paths, "distorted copies"), strict=True):
        rng = np.random.default_rng([seed, i])
        whole = to_floats(Image.fromarray(read_image(path, dataset.image_size)))
        image, damages = draw_distortions(whole, int(rng.integers(1, 3)), rng)
        copy = folder / f"{i:06d}-{damages.replace(':', '_')}.png"
        if not copy.is_file():
            with atomic_path(copy) as temporary:
                to_pillow(image).save(temporary, "PNG")
    return folder
