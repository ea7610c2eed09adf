"""The distortion ladder: whether a model's score falls as a distortion becomes stronger.

The order of the steps is known without observers.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from ..core.errors import LabError
from ..core.progress import progress_bar
from ..datasets.distortions import to_floats, to_pillow
from ..datasets.images import read_image
from ..metrics import srcc
from ..models.image_scorer import ImageScorer


def _noise(image: np.ndarray, sigma: float, place: int) -> np.ndarray:
    return image + sigma / 255 * np.random.default_rng([7, place]).standard_normal(image.shape)


def _blur(image: np.ndarray, radius: float, _: int) -> np.ndarray:
    return to_floats(to_pillow(image).filter(ImageFilter.GaussianBlur(radius)))


def _jpeg(image: np.ndarray, quality: int, _: int) -> np.ndarray:
    file = io.BytesIO()
    to_pillow(image).save(file, "JPEG", quality=quality)
    return to_floats(Image.open(file))


def _exposure(image: np.ndarray, stops: float, place: int) -> np.ndarray:
    # Even images darker, odd ones brighter by less, as bright images clip early.
    return image * 2 ** ((-stops if place % 2 == 0 else 0.75 * stops) / 2.2)


def _contrast(image: np.ndarray, share: float, _: int) -> np.ndarray:
    return image.mean() + (image - image.mean()) * share


def _mixture(image: np.ndarray, step: int, place: int) -> np.ndarray:
    for damage, at in (("blur", max(step - 1, 0)), ("noise", max(step - 1, 0)), ("jpeg", step)):
        image = damaged(image, damage, at, place)
    return image


# Function and five increasing strengths by distortion: standard deviation of Gaussian noise (of 255
# levels); radius of Gaussian blur (pixels); JPEG quality; exposure (stops); remaining contrast
# (fraction); step of blur, noise and JPEG together.
LADDER: dict[str, tuple[Callable, tuple]] = {
    "noise": (_noise, (6, 12, 24, 40, 60)),
    "blur": (_blur, (0.8, 1.4, 2.2, 3.5, 5)),
    "jpeg": (_jpeg, (60, 35, 20, 10, 5)),
    "exposure": (_exposure, (0.5, 1, 1.7, 2.5, 3.5)),
    "contrast": (_contrast, (0.8, 0.6, 0.45, 0.3, 0.15)),
    "mixture": (_mixture, (0, 1, 2, 3, 4)),
}
_STEPS = 5


def damaged(image: np.ndarray, damage: str, step: int, place: int) -> np.ndarray:
    """A copy of ``image``, float32 (h, w, 3) in [0,1], at one of ``LADDER``'s five steps.

    ``step`` is 0 to 4; noise and exposure depend on ``place``, the image's index. The copy is
    rounded to 8 bits.
    """
    function, strengths = LADDER[damage]
    return to_floats(to_pillow(np.clip(function(image, strengths[step], place), 0, 1)))


def distortion_ladder(
    model: ImageScorer, photographs: Sequence[Path | str | Image.Image], size: int | None = None
) -> pd.DataFrame:
    """Scores of images and of copies under six distortions at five strengths each.

    Args:
        model: an object with ``score``, as from ``load_model``.
        photographs: files or PIL images, undistorted.
        size: side in pixels of the square that images are resized to before distortion; ``None``:
            the model's.

    Returns:
        photograph (its index), damage, step (0: undistorted, 1 to 5), score: 36 rows per image.

    Raises:
        LabError: no images, or an unreadable one.
    """
    if not len(photographs):
        raise LabError("distortion_ladder needs at least one photograph.")
    rows = []
    for place, photograph in enumerate(progress_bar(photographs, "damage ladder")):
        image = read_image(photograph, size or model.image_size).astype(np.float32) / 255
        asked = [(damage, step) for damage in LADDER for step in range(_STEPS)]
        copies = [to_pillow(damaged(image, *each, place)) for each in asked]
        clean, *scores = model.score([to_pillow(image), *copies])
        rows += [(place, damage, 0, clean) for damage in LADDER]
        rows += [(place, *each[:1], each[1] + 1, s) for each, s in zip(asked, scores, strict=True)]
    table = pd.DataFrame(rows, columns=["photograph", "damage", "step", "score"])
    order = {damage: i for i, damage in enumerate(LADDER)}
    return table.sort_values(
        ["photograph", "damage", "step"], key=lambda c: c.map(order) if c.name == "damage" else c
    ).reset_index(drop=True)


def ladder_summary(table: pd.DataFrame) -> pd.DataFrame:
    """How often and how consistently scores fall, a row per distortion.

    Args:
        table: from ``distortion_ladder``.

    Returns:
        damage; photographs; falls, the fraction of images whose strongest copy scores below the
        undistorted one; spearman, the mean correlation of score and step over the six steps, -1 if
        strictly falling; fall, the mean undistorted score minus that of the strongest copy.
    """
    rows = []
    for damage, part in table.groupby("damage", sort=False):
        scores = part.pivot(index="photograph", columns="step", values="score").to_numpy(float)
        fall = scores[:, 0] - scores[:, -1]
        steps = np.arange(scores.shape[1])
        rows.append(
            {
                "damage": damage,
                "photographs": len(scores),
                "falls": float((fall > 0).mean()),
                # Constant scores have no order.
                "spearman": float(np.mean([np.nan_to_num(srcc(row, steps)) for row in scores])),
                "fall": float(fall.mean()),
            }
        )
    return pd.DataFrame(rows)
