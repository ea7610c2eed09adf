"""Families of distortions of any strength, with which scores should decrease.

A family holds several perceptually similar kinds: Gaussian, photon and impulse noise; Gaussian,
defocus and motion blur. ``distortions`` has the single camera-like kinds.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from ..core.errors import LabError
from .distortions import DISTORTIONS, to_floats, to_pillow

# From floats (h, w, 3) in [0,1], a strength in [0,1] and a generator to floats, not clipped.
Kind = Callable[[np.ndarray, float, Generator], np.ndarray]


def _gaussian_noise(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    # Of each channel independently, as in sensors, or of brightness only.
    channels = 3 if rng.random() < 0.7 else 1
    sigma = (1.5 + 70 * strength**1.3) / 255
    return image + sigma * rng.standard_normal((*image.shape[:2], channels))


def _impulses(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    hit = rng.random(image.shape[:2]) < 0.002 + 0.12 * strength**1.5
    noisy = image.copy()
    noisy[hit] = np.where(rng.random(hit.sum()) < 0.5, 0.0, 1.0)[:, None]
    return noisy


def _gaussian_blur(image: np.ndarray, strength: float, _: Generator) -> np.ndarray:
    radius = 0.5 + 5 * strength**1.3
    return to_floats(to_pillow(image).filter(ImageFilter.GaussianBlur(radius)))


def _jpeg(image: np.ndarray, strength: float, _: Generator) -> np.ndarray:
    file = io.BytesIO()
    to_pillow(image).save(file, "JPEG", quality=round(75 * (4 / 75) ** strength))
    return to_floats(Image.open(file))


def _darker(image: np.ndarray, strength: float, _: Generator) -> np.ndarray:
    return image * 2 ** (-4 * strength / 2.2)


def _brighter(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    if rng.random() < 0.3:
        return image + 0.55 * strength
    return image * 2 ** (2.6 * strength / 2.2)


def _flatter(image: np.ndarray, strength: float, _: Generator) -> np.ndarray:
    return image.mean() + (image - image.mean()) * (1 - 0.85 * strength)


def _harsher(image: np.ndarray, strength: float, _: Generator) -> np.ndarray:
    return image.mean() + (image - image.mean()) * (1 + 3 * strength)


# Kinds and their probabilities by family, in the order in which a mixture applies them.
FAMILIES: dict[str, tuple[tuple[Kind, float], ...]] = {
    "exposure": ((_darker, 0.5), (_brighter, 0.5)),
    "contrast": ((_flatter, 0.7), (_harsher, 0.3)),
    "blur": (
        (_gaussian_blur, 0.5), (DISTORTIONS["defocus"], 0.2), (DISTORTIONS["motion_blur"], 0.15),
        (DISTORTIONS["scaling"], 0.15),
    ),
    "noise": ((_gaussian_noise, 0.6), (DISTORTIONS["noise"], 0.25), (_impulses, 0.15)),
    "jpeg": ((_jpeg, 1.0),),
}  # fmt: skip
MIXTURE = "mixture"
# Probabilities of the families.
_SHARES = {"noise": 0.2, "blur": 0.16, "jpeg": 0.16, "exposure": 0.17, "contrast": 0.14,
           MIXTURE: 0.17}  # fmt: skip


class FamilyDistortion(NamedTuple):
    """Kinds of distortion applied in sequence, at any strength.

    family: of ``FAMILIES``, or ``MIXTURE`` of two or three of them. seed: of the randomness within
    the kinds, so that copies of different strength share it.
    """

    family: str
    kinds: tuple[Kind, ...]
    seed: int

    def apply(self, pixels: np.ndarray, strength: float) -> np.ndarray:
        """A distorted copy of ``pixels`` (h, w, 3) uint8; strength from 0 (mild) to 1 (strong).

        Raises:
            LabError: a strength outside [0, 1], or pixels of another shape or type.
        """
        if not 0 <= strength <= 1:
            raise LabError(f"strength {strength} of {self.family!r} is not in [0, 1].")
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise LabError(f"expected pixels (h, w, 3) uint8, not {pixels.dtype} {pixels.shape}.")
        image = pixels.astype(np.float32) / 255
        each = strength / len(self.kinds) ** 0.5  # else all mixtures would be strong
        for i, kind in enumerate(self.kinds):
            rng = np.random.default_rng([self.seed, i])
            image = np.clip(kind(image, each, rng), 0, 1).astype(np.float32)
        return np.asarray(to_pillow(image))


def draw_family_distortion(rng: Generator) -> FamilyDistortion:
    """A distortion of a random family, or a mixture of two or three."""
    family = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
    some = [family]
    if family == MIXTURE:
        drawn = set(rng.choice(list(FAMILIES), int(rng.integers(2, 4)), replace=False))
        some = [name for name in FAMILIES if name in drawn]
    kinds = []
    for name in some:
        choices, shares = zip(*FAMILIES[name], strict=True)
        kinds.append(choices[rng.choice(len(choices), p=shares)])
    return FamilyDistortion(family, tuple(kinds), int(rng.integers(2**31)))


def synthetic_image(size: int, rng: Generator) -> np.ndarray:
    """Pixels (size, size, 3) uint8 without content: noise, one colour, stripes, a chequerboard."""
    kind = rng.integers(6)
    if kind == 0:
        return rng.integers(0, 256, (size, size, 3), np.uint8)
    if kind == 1:
        noise = rng.standard_normal((size, size, rng.choice([1, 3]))) * rng.uniform(10, 100)
        return np.broadcast_to((128 + noise).clip(0, 255), (size, size, 3)).astype(np.uint8)
    first, second = rng.integers(0, 256, (2, 3))
    if kind == 2:
        return np.full((size, size, 3), first if rng.random() < 0.5 else first[0], np.uint8)
    if rng.random() < 0.5:
        first, second = np.zeros(3), np.full(3, 255)
    y, x = np.mgrid[:size, :size]
    period = int(rng.choice([1, 1, 2, 4, 8]))
    if kind == 3:
        share = (x // period + y // period) % 2
    else:
        along = x if rng.random() < 0.5 else y
        share = (along // period) % 2 if kind == 4 else along / size
    return (first * (1 - share[..., None]) + second * share[..., None]).astype(np.uint8)
