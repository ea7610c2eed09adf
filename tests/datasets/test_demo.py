import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.datasets import demo, distortions

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "demo"
    demo.make_demo(root)
    return root, pd.read_csv(root / "labels.csv")


def test_files_and_labels_agree(made):
    root, labels = made
    assert sorted(path.name for path in root.iterdir()) == ["images", "labels.csv"]
    assert list(labels) == ["name", "mos", "scene", "damage", "split"]
    assert 600 <= len(labels) <= 900
    assert not labels.isna().any(axis=None)
    assert {path.stem for path in (root / "images").iterdir()} == set(labels.name)
    assert labels.name.is_unique
    for name in labels.name:
        with Image.open(root / "images" / f"{name}.png") as image:
            assert (image.size, image.mode) == ((256, 256), "RGB")
    assert sum(path.stat().st_size for path in (root / "images").iterdir()) < 90e6


def test_no_scene_is_in_two_splits(made):
    _, labels = made
    assert (labels.groupby("scene").split.nunique() == 1).all()
    scenes = labels.groupby("split").scene.nunique()
    assert scenes.to_dict() == {"train": 9, "val": 2, "test": 3}


def test_labels_fill_their_range(made):
    _, labels = made
    undamaged = labels.damage == "none"
    assert labels.mos.between(0, 1).all()
    assert (labels.mos[undamaged] == 1).all()
    assert (labels.mos[~undamaged] < 1).mean() > 0.99  # a faint one may leave the 8 bits alone
    assert (labels[undamaged].groupby("scene").size() == 5).all()
    shares = np.histogram(labels.mos[~undamaged], bins=5, range=(0, 1))[0] / (~undamaged).sum()
    assert shares.min() > 0.05
    assert shares.max() < 0.4
    assert labels.groupby("scene").mos.mean().std() < 0.06


def test_every_damage_occurs_alone_and_mixed_in_camera_order(made):
    _, labels = made
    mixes = [[part.split(":")[0] for part in text.split("+")] for text in labels.damage]
    order = list(distortions.DISTORTIONS)
    assert {mix[0] for mix in mixes if len(mix) == 1} == {"none", *order}
    assert {kind for mix in mixes if len(mix) > 1 for kind in mix} == set(order)
    assert {len(mix) for mix in mixes} == {1, 2, 3}
    for mix in mixes:
        assert mix == ["none"] or mix == sorted(mix, key=order.index)
        assert not {"under_exposure", "over_exposure"} <= set(mix)


def test_an_image_does_not_depend_on_what_was_made_before(made):
    root, labels = made
    for view in (11, 7):
        row, image = demo._make("coffee.png", demo.open_picture("coffee.png"), view)
        assert row == labels[labels.name == row["name"]].iloc[0].to_dict()
        with Image.open(root / "images" / f"{row['name']}.png") as file:
            assert file.tobytes() == distortions.to_pillow(image).tobytes()


def test_a_complete_set_is_left_alone_and_another_folder_refused(made, tmp_path):
    root, _ = made
    state = _state(root)
    demo.make_demo(root)
    assert _state(root) == state
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(LabError, match="not a complete demo set"):
        demo.make_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_two_makings_give_the_same_bytes_and_a_failed_one_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PICTURES", {"coins.png": "val"})
    monkeypatch.setattr(demo, "MIXES", (0, 3))
    (tmp_path / "one").mkdir()  # an empty folder may be filled
    demo.make_demo(tmp_path / "one")
    demo.make_demo(tmp_path / "two")
    assert list(_state(tmp_path / "one").values()) == list(_state(tmp_path / "two").values())
    monkeypatch.setattr(demo, "PICTURES", {"coins.png": "val", "nowhere.png": "val"})
    with pytest.raises(LabError, match=r"nowhere\.png is missing"):
        demo.make_demo(tmp_path / "three")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("kind", distortions.DISTORTIONS)
@pytest.mark.parametrize("picture", ["astronaut.png", "grass.png"])
def test_more_damage_means_a_lower_label(picture, kind):
    view = demo._view(demo.open_picture(picture), np.random.default_rng(1))
    strengths = (0, 0.1, 0.3, 0.5, 0.75, 1)
    labels = [
        demo.pseudo_mos(view, distortions.distort(view, kind, strength)) for strength in strengths
    ]
    assert labels[0] == 1
    assert spearmanr(strengths, labels).statistic == pytest.approx(-1)
    assert labels[-1] < 0.7  # texture hides noise and JPEG


def test_exposure_is_a_gain_in_linear_light_clipped_at_white():
    light = 0.18
    grey = np.full((8, 8, 3), light ** (1 / 2.2), np.float32)
    under = distortions.distort(grey, "under_exposure", 0.4)  # two stops: a quarter of the light
    np.testing.assert_allclose(under**2.2, light / 4, rtol=1e-5)
    over = distortions.distort(grey, "over_exposure", 2 / 3)  # two stops: four times the light
    np.testing.assert_allclose(over**2.2, light * 4, rtol=1e-5)
    assert (distortions.distort(grey, "over_exposure", 1) == 1).all()  # 0.18 * 8 is beyond white


def test_low_contrast_pulls_two_levels_towards_their_mean():
    image = np.full((4, 4, 3), 0.25, np.float32)
    image[:2] = 0.75
    damaged = distortions.distort(image, "low_contrast", 1)
    np.testing.assert_allclose(np.unique(damaged.round(5)), [0.4625, 0.5375], atol=1e-5)


def test_blurs_keep_a_constant_and_spread_a_point_evenly():
    constant = np.full((40, 40, 3), 0.3, np.float32)
    point = np.zeros((41, 41, 3), np.float32)
    point[20, 20] = 1
    for kind, area, error in (("defocus", np.pi * 7**2, 8), ("motion_blur", 26, 3)):
        np.testing.assert_allclose(distortions.distort(constant, kind, 1), 0.3, atol=1e-6)
        spread = distortions.distort(point, kind, 1)[:, :, 0]
        assert spread.sum() == pytest.approx(1, abs=1e-4)
        assert 1 / spread.max() == pytest.approx(area, abs=error)


def test_a_cast_leaves_black_and_the_product_of_the_channels():
    image = np.full((4, 4, 3), 0.4, np.float32)
    image[0] = 0
    damaged = distortions.distort(image, "colour_cast", 0.5, seed=3)
    assert (damaged[0] == 0).all()
    assert np.ptp(damaged[1, 0]) > 0.05
    assert damaged[1, 0].prod() == pytest.approx(0.4**3, rel=1e-4)  # the gains' logs sum to zero


def test_noise_has_the_stated_variance_in_linear_light():
    grey = np.full((200, 200, 3), 0.5 ** (1 / 2.2), np.float32)
    light = distortions.distort(grey, "noise", 0.4).astype(float) ** 2.2
    assert light.mean() == pytest.approx(0.5, abs=2e-3)
    assert light.var() == pytest.approx(0.25 * 0.16 * 0.5 + (0.04 * 0.16) ** 2, rel=0.03)


@pytest.mark.parametrize("kind", distortions.DISTORTIONS)
def test_damage_returns_a_new_image_fixed_by_its_seed(kind):
    image = np.random.default_rng(1).random((30, 44, 3), dtype=np.float32)
    before = image.copy()
    damaged = distortions.distort(image, kind, 0.7, seed=5)
    assert (damaged.shape, damaged.dtype) == (image.shape, np.float32)
    assert damaged.min() >= 0
    assert damaged.max() <= 1
    np.testing.assert_array_equal(damaged, distortions.distort(image, kind, 0.7, seed=5))
    np.testing.assert_array_equal(distortions.distort(image, kind, 0), before)
    np.testing.assert_array_equal(image, before)


def test_damage_names_what_is_wrong():
    image = np.zeros((8, 8, 3), np.float32)
    with pytest.raises(LabError, match="Did you mean 'defocus'"):
        distortions.distort(image, "defocu", 0.5)
    with pytest.raises(LabError, match=r"strength 1\.5"):
        distortions.distort(image, "jpeg", 1.5)
    for wrong in (image[:, :, 0], (image * 255).astype(np.uint8)):
        with pytest.raises(LabError, match="expected a float image"):
            distortions.distort(wrong, "jpeg", 0.5)


def _state(root: Path) -> dict[Path, str]:
    """Content hash of every file under ``root``, in the order of their names."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
