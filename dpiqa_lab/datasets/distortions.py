"""Camera-like damage of known kind and strength: for the demo set and for the tiny prior."""

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image
from scipy.signal import fftconvolve

from ..core.errors import LabError, unknown

GAMMA = 2.2


def distort(
    image: np.ndarray, kind: str, strength: float, seed: int | np.random.Generator = 0
) -> np.ndarray:
    """``image``, float (H, W, 3) in [0, 1], with one of ``DISTORTIONS``: a new float32 array alike.

    ``strength`` runs from 0 (nothing) to 1 (heavy). ``seed`` fixes what is random: the grain of
    noise, the direction of motion, the tint of a cast. Raises LabError for an unknown ``kind``, a
    ``strength`` outside [0, 1] or an image of another shape or type.
    """
    if kind not in DISTORTIONS:
        raise unknown("damage", kind, DISTORTIONS)
    if not 0 <= strength <= 1:
        raise LabError(f"strength {strength} of {kind!r} is not in [0, 1].")
    if image.dtype.kind != "f" or image.ndim != 3 or image.shape[2] != 3:
        raise LabError(f"want a float image (H, W, 3), not {image.dtype} {image.shape}.")
    image = image.astype(np.float32)
    if strength == 0:  # even the best JPEG would change the picture
        return image
    damaged = DISTORTIONS[kind](image, strength, np.random.default_rng(seed))
    return np.clip(damaged, 0, 1).astype(np.float32)


def draw_distortions(
    image: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """``image`` with ``count`` damages of random kind and strength, in camera order.

    Returns:
        The damaged image, and what was done as ``defocus:0.42+jpeg:0.80``, or ``none``.
    """
    kinds = opposites = {"under_exposure", "over_exposure"}
    while opposites <= kinds:  # they would undo each other
        kinds = set(rng.choice(list(DISTORTIONS), count, replace=False))
    parts = []
    for kind in (kind for kind in DISTORTIONS if kind in kinds):
        strength = round(rng.uniform(0.05, 1) / count**0.5, 2)  # else all mixes would be heavy
        image = distort(image, kind, strength, rng)
        parts.append(f"{kind}:{strength:.2f}")
    return image, "+".join(parts) or "none"


def strengths(damages: str) -> dict[str, float]:
    """What ``draw_distortions`` wrote down, by kind: ``defocus:0.42+jpeg:0.80``, or ``none``."""
    parts = [] if damages == "none" else [part.split(":") for part in damages.split("+")]
    return {kind: float(strength) for kind, strength in parts}


def strength_table(damages: Iterable[str]) -> np.ndarray:
    """Strengths (n, kinds) float32 in the order of ``DISTORTIONS``, 0 where a kind is absent."""
    known = [strengths(row) for row in damages]
    return np.array([[row.get(kind, 0.0) for kind in DISTORTIONS] for row in known], np.float32)


def to_floats(picture: Image.Image) -> np.ndarray:
    """Pixels as float32 (H, W, 3) in [0, 1]."""
    return np.asarray(picture, dtype=np.float32) / 255


def to_pillow(image: np.ndarray) -> Image.Image:
    """A float (H, W, 3) image, clipped to [0, 1] and rounded to 8 bits."""
    return Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))


def _colour_cast(image, strength, rng):
    hue = rng.uniform(0, 2 * np.pi) + np.arange(3) * 2 * np.pi / 3
    return image * 2 ** (1.5 * strength / GAMMA * np.cos(hue))


def _blur(image, reach, weight):
    """Mean over offsets up to ``reach``, weighted by ``weight(x, y)`` clipped to [0, 1]."""
    radius = int(np.ceil(reach))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    kernel = np.clip(weight(x, y), 0, 1)
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="symmetric")
    return fftconvolve(padded, (kernel / kernel.sum())[:, :, None], mode="valid", axes=(0, 1))


def _defocus(image, strength, rng):
    radius = 7 * strength + 0.5
    return _blur(image, radius, lambda x, y: radius - np.hypot(x, y))


def _motion_blur(image, strength, rng):
    half, angle = 13 * strength + 0.5, rng.uniform(0, np.pi)
    c, s = np.cos(angle), np.sin(angle)
    return _blur(
        image, half, lambda x, y: np.minimum(half - abs(x * c + y * s), 1 - abs(y * c - x * s))
    )


def _noise(image, strength, rng):
    light, level = image**GAMMA, strength**2
    sigma = np.sqrt(0.25 * level * light + (0.04 * level) ** 2)  # shot and read noise
    return np.clip(light + sigma * rng.standard_normal(image.shape), 0, 1) ** (1 / GAMMA)


def _scaling(image, strength, rng):
    height, width = image.shape[:2]
    factor = 1 + 7 * strength
    small = [max(1, round(side / factor)) for side in (width, height)]
    shrunk = to_pillow(image).resize(small, Image.Resampling.BOX)
    return to_floats(shrunk.resize((width, height), Image.Resampling.BICUBIC))


def _jpeg(image, strength, rng):
    file = io.BytesIO()
    to_pillow(image).save(file, "JPEG", quality=round(90 * (4 / 90) ** strength))
    return to_floats(Image.open(file))


# In camera order, the file last: a mix is applied in this order. Each function takes an image,
# float32 (H, W, 3) in [0, 1], a strength in [0, 1] and a generator; ``distort`` clips the result.
DISTORTIONS = {
    "under_exposure": lambda x, s, rng: x * 2 ** (-5 * s / GAMMA),
    "over_exposure": lambda x, s, rng: x * 2 ** (3 * s / GAMMA),
    "colour_cast": _colour_cast,
    "low_contrast": lambda x, s, rng: x.mean() + (x - x.mean()) * (1 - 0.85 * s),
    "defocus": _defocus,
    "motion_blur": _motion_blur,
    "noise": _noise,
    "scaling": _scaling,
    "jpeg": _jpeg,
}
