"""Prompt sets: the text that guides the U-Net to quality (paper section 3.2)."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from ..core.errors import LabError, unknown

TEMPLATE = "a photo of a {scene} with {distortion} artifacts, which is of {quality} quality"
# The wording of the paper's figure; the template above is that of the authors' code.
FIGURE_TEMPLATE = "a photo of a {scene} with {distortion} distortion, which is of {quality} quality"
QUALITIES = ("bad", "poor", "fair", "good", "perfect")
SCENES = (
    "animal", "cityscape", "human", "indoor", "landscape", "night", "plant", "still_life", "others",
)  # fmt: skip
# The distortion names of LIQE, and the eleven it merges them into.
DISTORTIONS = (
    "jpeg2000 compression", "jpeg compression", "white noise", "gaussian blur", "fastfading",
    "fnoise", "contrast", "lens", "motion", "diffusion", "shifting", "color quantization",
    "oversaturation", "desaturation", "white with color", "impulse", "multiplicative",
    "white noise with denoise", "brighten", "darken", "shifting the mean", "jitter",
    "noneccentricity patch", "pixelate", "quantization", "color blocking", "sharpness",
    "realistic blur", "realistic noise", "underexposure", "overexposure",
    "realistic contrast change", "other realistic",
)  # fmt: skip
MERGED = (
    "jpeg2000 compression", "jpeg compression", "noise", "blur", "color", "contrast",
    "overexposure", "underexposure", "spatial", "quantization", "other",
)  # fmt: skip

# Default factors of attention maps.
FACTORS = ("blur", "noise", "bad", "perfect")

SETS = {
    "official": "5 qualities x 9 scenes x 33 distortions = 1,485",
    "figure": "the same 1,485, '{distortion} distortion' for '{distortion} artifacts'",
    "merged": "5 qualities x 9 scenes x 11 distortions = 495",
    "none": "one empty prompt: unconditional",
}


def prompt_texts(prompts: str | Sequence[str]) -> list[str]:
    """The prompts of a set.

    Args:
        prompts: "official", "figure", "merged", "none", a text file with one
            prompt per line, or a list.

    Raises:
        LabError: an unknown set, a file without prompts, or an empty list.
    """
    if not isinstance(prompts, str):
        texts = [str(text) for text in prompts]
    elif prompts in ("official", "figure", "merged"):
        kinds = MERGED if prompts == "merged" else DISTORTIONS
        template = FIGURE_TEMPLATE if prompts == "figure" else TEMPLATE
        return [
            template.format(quality=quality, scene=scene, distortion=distortion)
            for quality, scene, distortion in product(QUALITIES, SCENES, kinds)
        ]
    elif prompts == "none":
        return [""]
    elif Path(prompts).is_file():
        lines = Path(prompts).read_text(encoding="utf-8").splitlines()
        texts = [line.strip() for line in lines if line.strip()]
    else:
        raise unknown("prompt set", prompts, [*SETS, "a text file with one prompt per line"])
    if not texts:
        raise LabError(f"no prompts in {prompts!r}; use 'none' for an unconditional pass.")
    return texts


def factor_members(texts: Sequence[str], factors: Sequence[str] = FACTORS) -> np.ndarray:
    """Which prompts contain a factor: (K, F) bool.

    Whole words count: "other" is not in "others", "blur" is in "gaussian blur".

    Raises:
        LabError: no factor, or one that no prompt contains.
    """
    if not len(factors):
        raise LabError("no factors: give words of the prompts, such as blur,noise,bad,perfect.")
    patterns = [re.compile(rf"\b{re.escape(factor)}\b", re.IGNORECASE) for factor in factors]
    members = np.array([[bool(p.search(text)) for p in patterns] for text in texts])
    found = [bool(any_prompt) for any_prompt in np.asarray(members.any(axis=0))]
    if missing := [f for f, any_prompt in zip(factors, found, strict=True) if not any_prompt]:
        raise LabError(
            f"factors {missing} stand in none of the {len(texts)} prompts (the first: "
            f"{texts[0]!r}); a factor is a word of the prompts, such as 'blur' or 'bad'."
        )
    return members
