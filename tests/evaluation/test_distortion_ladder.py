"""The damage ladder, with models whose answers are known, and the families students learn by."""

import numpy as np
import pytest
from skimage import data

import dpiqa_lab as lab
from dpiqa_lab.datasets.distortion_families import (
    FAMILIES,
    MIXTURE,
    FamilyDistortion,
    draw_family_distortion,
    synthetic_image,
)
from dpiqa_lab.evaluation.ladder import (
    LADDER,
    damaged,
    distortion_ladder,
    ladder_summary,
)

PICTURE = data.chelsea()[:96, :128]


class _Closeness:
    """Scores a picture by how near it is to the last clean one, or by the opposite."""

    image_size = 96

    def __init__(self, sign: float = 1.0):
        self.sign = sign

    def score(self, pictures):
        first, *_ = pixels = [np.asarray(p, float) for p in pictures]
        return np.array([-self.sign * np.square(p - first).mean() for p in pixels])


@pytest.fixture(scope="module")
def pictures():
    from PIL import Image

    return [Image.fromarray(PICTURE), Image.fromarray(PICTURE[:, ::-1])]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_model_falls_at_every_step_and_its_opposite_at_none(pictures, sign):
    table = distortion_ladder(_Closeness(sign), pictures)
    assert len(table) == 2 * 36
    assert table.groupby("damage").size().to_dict() == dict.fromkeys(LADDER, 12)
    found = ladder_summary(table).set_index("damage")
    assert list(found.index) == list(LADDER)
    assert (found["photographs"] == 2).all()
    assert (found["falls"] == (sign > 0)).all()
    assert found["spearman"].to_numpy() == pytest.approx(-sign)
    assert (np.sign(found["fall"]) == sign).all()


def test_a_model_that_sees_nothing_follows_no_order(pictures):
    class Blind(_Closeness):
        def score(self, pictures):
            return np.zeros(len(pictures))

    found = ladder_summary(distortion_ladder(Blind(), pictures[:1]))
    assert (found[["falls", "spearman", "fall"]] == 0).all(axis=None)
    with pytest.raises(lab.LabError, match="at least one photograph"):
        distortion_ladder(Blind(), [])


def test_the_ladder_s_damages_by_hand():
    grey = np.full((64, 64, 3), 0.5, np.float32)
    noise = damaged(grey, "noise", 2, 0) - grey
    assert noise.std() * 255 == pytest.approx(24, rel=0.05)
    assert damaged(grey, "exposure", 1, 0).mean() == pytest.approx(0.5 * 2 ** (-1 / 2.2), abs=0.003)
    assert damaged(grey, "exposure", 1, 1).mean() > 0.5
    steps = np.concatenate([0.8 * grey, 1.2 * grey])
    assert np.ptp(damaged(steps, "contrast", 3, 0)) == pytest.approx(0.3 * 0.2, abs=0.005)
    assert np.array_equal(
        damaged(steps, "mixture", 0, 0),
        damaged(damaged(damaged(steps, "blur", 0, 0), "noise", 0, 0), "jpeg", 0, 0),
    )


@pytest.mark.parametrize(
    "damage",
    [FamilyDistortion(f, (kind,), 5) for f, kinds in FAMILIES.items() for kind, _ in kinds],
    ids=lambda damage: f"{damage.family}-{damage.kinds[0].__name__.strip('_')}",
)
def test_every_kind_of_a_family_does_more_the_stronger_it_is(damage):
    errors = [
        np.square(damage.apply(PICTURE, s).astype(float) - PICTURE).mean() for s in (0.1, 0.5, 1)
    ]
    assert 0 < errors[0] < errors[1] < errors[2]
    assert np.array_equal(damage.apply(PICTURE, 0.5), damage.apply(PICTURE, 0.5))


def test_families_are_drawn_all_and_mixtures_are_of_several():
    drawn = [draw_family_distortion(np.random.default_rng(i)) for i in range(200)]
    assert {d.family for d in drawn} == {*FAMILIES, MIXTURE}
    assert all((len(d.kinds) > 1) == (d.family == MIXTURE) for d in drawn)
    with pytest.raises(lab.LabError, match=r"strength 1\.5 .* not in \[0, 1\]"):
        drawn[0].apply(PICTURE, 1.5)
    with pytest.raises(lab.LabError, match="expected pixels"):
        drawn[0].apply(PICTURE / 255, 0.5)


def test_what_shows_nothing_is_of_every_kind():
    pictures = [synthetic_image(32, np.random.default_rng(i)) for i in range(60)]
    assert all(p.shape == (32, 32, 3) and p.dtype == np.uint8 for p in pictures)
    flat = sum(np.ptp(p.reshape(-1, 3), axis=0).max() == 0 for p in pictures)
    assert 4 < flat < 30
    assert any(np.array_equal(p[::2, ::2], p[1::2, 1::2]) and np.ptp(p) == 255 for p in pictures)
