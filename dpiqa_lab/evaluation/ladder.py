"""The damage ladder: whether a model's score falls as a photograph is damaged more and more.

Of a damage's steps no observer is needed to say the order, and a model that ranks photographs well
may still get it wrong: noise looks like texture to it.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from ..core.errors import LabError
from ..core.progress import progress_bar
from ..datasets.distortions import to_floats, to_pillow
from ..datasets.images import read_image
from ..metrics import srcc
from ..models.image_scorer import ImageScorer, Photograph


def _noise(image: np.ndarray, sigma: float, place: int) -> np.ndarray:
    return image + sigma / 255 * np.random.default_rng([7, place]).standard_normal(image.shape)


def _blur(image: np.ndarray, radius: float, place: int) -> np.ndarray:
    return to_floats(to_pillow(image).filter(ImageFilter.GaussianBlur(radius)))


def _jpeg(image: np.ndarray, quality: int, place: int) -> np.ndarray:
    file = io.BytesIO()
    to_pillow(image).save(file, "JPEG", quality=quality)
    return to_floats(Image.open(file))


def _exposure(image: np.ndarray, stops: float, place: int) -> np.ndarray:
    # Every second photograph darker, the others brighter, of which there is less to give.
    return image * 2 ** ((-stops if place % 2 == 0 else 0.75 * stops) / 2.2)


def _contrast(image: np.ndarray, share: float, place: int) -> np.ndarray:
    return image.mean() + (image - image.mean()) * share


def _mixture(image: np.ndarray, step: int, place: int) -> np.ndarray:
    for damage, at in (("blur", max(step - 1, 0)), ("noise", max(step - 1, 0)), ("jpeg", step)):
        image = damaged(image, damage, at, place)
    return image


# By damage, the function and its five strengths, from mild to heavy: deviation of Gaussian noise of
# 255 levels; radius of Gaussian blur in pixels; JPEG quality; stops of exposure; share of contrast
# that is left; blur, noise and JPEG together.
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
    """A copy of ``image``, float32 (h, w, 3) in [0,1], one of ``LADDER``'s five steps down.

    ``step`` runs from 0 to 4; ``place`` is the photograph's, which noise and exposure depend on.
    The copy is rounded to 8 bits.
    """
    function, strengths = LADDER[damage]
    return to_floats(to_pillow(np.clip(function(image, strengths[step], place), 0, 1)))


def distortion_ladder(
    model: ImageScorer, photographs: Sequence[Photograph], size: int | None = None
) -> pd.DataFrame:
    """Scores of photographs and of their copies under six damages of five strengths each.

    Args:
        model: whatever has ``score``, as ``load_model`` gives it.
        photographs: files or PIL images, clean as far as photographs are.
        size: side of the square that they are squashed to before they are damaged, in pixels;
            ``None`` is the model's own.

    Returns:
        photograph (its place), damage, step (0 the photograph itself, 1 to 5) and score: 36 rows a
        photograph.

    Raises:
        LabError: no photographs, or an unreadable one.
    """
    if not len(photographs):
        raise LabError("damage_ladder needs at least one photograph.")
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
    """How often and how steadily scores fall, a row a damage.

    Args:
        table: as ``distortion_ladder`` gives it.

    Returns:
        damage; photographs; falls, the share of them whose strongest copy scores below the clean
        one; spearman, the mean correlation of score and step over the six steps, -1 where each is
        below the one before; fall, the mean of the clean score less the strongest copy's.
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
                # Scores that are all the same follow no order.
                "spearman": float(np.mean([np.nan_to_num(srcc(row, steps)) for row in scores])),
                "fall": float(fall.mean()),
            }
        )
    return pd.DataFrame(rows)
