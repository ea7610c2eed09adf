import numpy as np
import pytest

from dpiqa_lab.datasets.distortions import DISTORTIONS as OPERATORS
from dpiqa_lab.diffusion.distortion_prompts import WORDS, distortion_prompt
from dpiqa_lab.diffusion.prompts import DISTORTIONS, MERGED, prompt_texts


def _captions(damage, luminance=0.5, n=40):
    rng = np.random.default_rng(0)
    return [distortion_prompt(damage, luminance, rng) for _ in range(n)]


def test_captions_are_prompts_of_the_sets():
    known = {*prompt_texts("official"), *prompt_texts("merged")}
    assert set(WORDS) == set(OPERATORS)
    for damage in ("none", *(f"{kind}:0.50" for kind in OPERATORS)):
        assert known.issuperset(_captions(damage))
    assert {word for words in WORDS.values() for word in words} <= {*DISTORTIONS, *MERGED}


@pytest.mark.parametrize(
    ("damage", "quality"),
    [
        ("none", "perfect"), ("jpeg:0.05", "good"), ("jpeg:0.30", "fair"), ("jpeg:0.50", "poor"),
        ("jpeg:0.90", "bad"), ("noise:0.40+jpeg:0.50", "bad"),
    ],
)  # fmt: skip
def test_quality_follows_the_sum_of_strengths(damage, quality):
    assert all(f"of {quality} quality" in text for text in _captions(damage))


def test_the_strongest_damage_is_named():
    assert all("jpeg compression" in text for text in _captions("noise:0.20+jpeg:0.60"))
    assert not any("jpeg" in text for text in _captions("noise:0.60+jpeg:0.20"))


def test_only_night_is_known_of_the_scene():
    assert all("photo of a night" in text for text in _captions("none", luminance=0.1))
    by_day = {text.split(" with ")[0] for text in _captions("none", luminance=0.6)}
    assert len(by_day) > 4
    assert "a photo of a night" not in by_day
