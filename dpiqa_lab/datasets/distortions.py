"""Camera-like distortions of known kind and strength."""

import io
from collections.abc import Callable, Iterable

import numpy as np
from numpy.random import Generator
from PIL import Image
from scipy.signal import fftconvolve

from ..core.errors import LabError, unknown

GAMMA = 2.2


def distort(image: np.ndarray, kind: str, strength: float, seed: int | Generator = 0) -> np.ndarray:
    """A copy of ``image``, float (H, W, 3) in [0, 1], with one of ``DISTORTIONS``; float32.

    ``strength`` is from 0 (none) to 1 (strong). ``seed`` fixes the random aspects: noise, direction
    of motion, hue of a colour cast.

    Raises:
        LabError: an unknown ``kind``, a ``strength`` outside [0, 1] or another shape or type.
    """
    if kind not in DISTORTIONS:
        raise unknown("damage", kind, DISTORTIONS)
    if not 0 <= strength <= 1:
        raise LabError(f"strength {strength} of {kind!r} is not in [0, 1].")
    if image.dtype.kind != "f" or image.ndim != 3 or image.shape[2] != 3:
        raise LabError(f"expected a float image (H, W, 3), not {image.dtype} {image.shape}.")
    image = image.astype(np.float32)
    if strength == 0:  # even the best JPEG changes the image
        return image
    damaged = DISTORTIONS[kind](image, strength, np.random.default_rng(seed))
    return np.clip(damaged, 0, 1).astype(np.float32)


def draw_distortions(image: np.ndarray, count: int, rng: Generator) -> tuple[np.ndarray, str]:
    """``image`` with ``count`` distortions of random kind and strength, in camera order.

    Returns:
        The distorted image, and a description such as ``defocus:0.42+jpeg:0.80``, or ``none``.
    """
    kinds = opposites = {"under_exposure", "over_exposure"}
    while opposites <= kinds:  # they would undo each other
        kinds = set(rng.choice(list(DISTORTIONS), count, replace=False))
    parts = []
    for kind in (kind for kind in DISTORTIONS if kind in kinds):
        strength = round(rng.uniform(0.05, 1) / count**0.5, 2)  # else all mixes would be strong
        image = distort(image, kind, strength, rng)
        parts.append(f"{kind}:{strength:.2f}")
    return image, "+".join(parts) or "none"


def strengths(damages: str) -> dict[str, float]:
    """Strengths by kind from a description by ``draw_distortions``."""
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


def _colour_cast(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    hue = rng.uniform(0, 2 * np.pi) + np.arange(3) * 2 * np.pi / 3
    return image * 2 ** (1.5 * strength / GAMMA * np.cos(hue))


def _blur(
    image: np.ndarray, reach: float, weight: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Mean over offsets up to ``reach``, weighted by ``weight(x, y)`` clipped to [0, 1]."""
    radius = int(np.ceil(reach))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    kernel = np.clip(weight(x, y), 0, 1)
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="symmetric")
    return fftconvolve(padded, (kernel / kernel.sum())[:, :, None], mode="valid", axes=(0, 1))


def _defocus(image: np.ndarray, strength: float, _: Generator) -> np.ndarray:
    radius = 7 * strength + 0.5
    return _blur(image, radius, lambda x, y: radius - np.hypot(x, y))


def _motion_blur(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    half, angle = 13 * strength + 0.5, rng.uniform(0, np.pi)
    c, s = np.cos(angle), np.sin(angle)
    return _blur(
        image, half, lambda x, y: np.minimum(half - abs(x * c + y * s), 1 - abs(y * c - x * s))
    )


def _noise(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    light, level = image**GAMMA, strength**2
    sigma = np.sqrt(0.25 * level * light + (0.04 * level) ** 2)  # shot and read noise
    return np.clip(light + sigma * rng.standard_normal(image.shape), 0, 1) ** (1 / GAMMA)


def _scaling(image: np.ndarray, strength: float, _: Generator) -> np.ndarray:
    height, width = image.shape[:2]
    factor = 1 + 7 * strength
    small = [max(1, round(side / factor)) for side in (width, height)]
    shrunk = to_pillow(image).resize(small, Image.Resampling.BOX)
    return to_floats(shrunk.resize((width, height), Image.Resampling.BICUBIC))


def _jpeg(image: np.ndarray, strength: float, _: Generator) -> np.ndarray:
    file = io.BytesIO()
    to_pillow(image).save(file, "JPEG", quality=round(90 * (4 / 90) ** strength))
    return to_floats(Image.open(file))


# In camera order, in which a mix is applied. Each function takes an image, float32 (H, W, 3) in
# [0, 1], a strength in [0, 1] and a generator; ``distort`` clips the result.
DISTORTIONS: dict[str, Callable[[np.ndarray, float, Generator], np.ndarray]] = {
    "under_exposure": lambda x, s, _: x * 2 ** (-5 * s / GAMMA),
    "over_exposure": lambda x, s, _: x * 2 ** (3 * s / GAMMA),
    "colour_cast": _colour_cast,
    "low_contrast": lambda x, s, _: x.mean() + (x - x.mean()) * (1 - 0.85 * s),
    "defocus": _defocus,
    "motion_blur": _motion_blur,
    "noise": _noise,
    "scaling": _scaling,
    "jpeg": _jpeg,
}
