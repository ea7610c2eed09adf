"""Prompts for distorted views, from their known distortions and luminance."""

import numpy as np

from ..datasets.distortions import strengths
from .prompts import DISTORTIONS, MERGED, QUALITIES, SCENES, TEMPLATE

# Prompt words for each distortion: names of LIQE's and of the eleven they are merged into.
WORDS = {
    "under_exposure": ("underexposure", "darken"),
    "over_exposure": ("overexposure", "brighten"),
    "colour_cast": ("color", "shifting"),
    "low_contrast": ("contrast", "realistic contrast change"),
    "defocus": ("blur", "gaussian blur", "lens", "realistic blur"),
    "motion_blur": ("blur", "motion", "realistic blur"),
    "noise": ("noise", "white noise", "realistic noise"),
    "scaling": ("spatial", "pixelate"),
    "jpeg": ("jpeg compression",),
}
# Lowest sum of strengths of each quality, from "bad" on; below the last a view is "perfect".
STRENGTHS = (0.7, 0.4, 0.2, 0.01)
# Mean luminance of the undistorted view below which the scene is "night".
NIGHT = 0.2
_BY_DAY = tuple(scene for scene in SCENES if scene != "night")


def distortion_prompt(damage: str, luminance: float, rng: np.random.Generator) -> str:
    """A prompt for a view, synonyms drawn by ``rng``.

    The strongest distortion is named; an undistorted view is of perfect quality with any
    distortion's name, as the prompt sets pair every quality with every distortion. Scenes are not
    known: a dark view is "night", any other has a random scene.

    Args:
        damage: as ``defocus:0.42+jpeg:0.80``, or ``none``.
        luminance: mean of the undistorted view, in [0, 1].
    """
    known = strengths(damage)
    words = WORDS[max(known, key=known.__getitem__)] if known else (*DISTORTIONS, *MERGED)
    return TEMPLATE.format(
        quality=QUALITIES[int(np.searchsorted([-s for s in STRENGTHS], -sum(known.values())))],
        scene="night" if luminance < NIGHT else rng.choice(_BY_DAY),
        distortion=rng.choice(words),
    )
