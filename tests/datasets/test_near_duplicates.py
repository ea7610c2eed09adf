"""Near copies: found when they are, not found when they are not, and in one part of a split."""

import functools
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter

import dpiqa_lab as lab
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.datasets import near_duplicates
from dpiqa_lab.datasets.demo import PICTURES, open_picture
from dpiqa_lab.datasets.images import read_image, read_thumbnail
from dpiqa_lab.datasets.near_duplicates import (
    group_thumbnails,
    join_groups,
    thumbnails,
    with_scenes,
)

SIDE = near_duplicates.SIDE


@functools.cache
def picture(name: str) -> Image.Image:
    whole = open_picture(name)
    whole.thumbnail((400, 400))
    return whole


def thumbnail(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def partition(scenes: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(scenes == scene).tolist()) for scene in scenes}


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def copied(name, cut, across, down, brightness, blur, quality) -> Image.Image:
    """A picture cut at two borders, resized, brightened, blurred and compressed."""
    image = picture(name)
    width, height = image.size
    image = image.crop((int(cut * width), 0, width, height - int(cut * height)))
    image = image.resize((round(across * width), round(down * height)))
    image = ImageEnhance.Brightness(image).enhance(brightness)
    image = image.filter(ImageFilter.GaussianBlur(blur * min(image.size)))
    return compressed(image, quality)


COPIES = {
    "name": st.sampled_from(list(PICTURES)),
    "cut": st.floats(0, 0.01),
    "across": st.floats(0.4, 1.5),
    "down": st.floats(0.4, 1.5),
    "brightness": st.floats(0.5, 1.2),
    "blur": st.floats(0, 0.01),
    "quality": st.integers(30, 95),
}


PICTURES_ALONE = np.stack([thumbnail(picture(name)) for name in PICTURES])


def test_unrelated_pictures_are_as_many_scenes():
    assert group_thumbnails(PICTURES_ALONE).tolist() == list(range(len(PICTURES)))


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries(COPIES))
def test_a_copy_is_found_and_linked_to_its_original_alone(change):
    grey = np.concatenate([PICTURES_ALONE, thumbnail(copied(**change))[None]])
    scenes = group_thumbnails(grey)
    assert scenes[-1] == list(PICTURES).index(change["name"])
    assert scenes[:-1].tolist() == list(range(len(PICTURES)))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 16))
def test_noise_of_any_grain_is_unrelated(seed, grain):
    rng = np.random.default_rng(seed)
    grains = rng.integers(0, 256, (30, SIDE // 2, SIDE // 2), dtype=np.uint8)
    fine = [thumbnail(Image.fromarray(g).resize((16 * grain, 16 * grain))) for g in grains]
    assert len(set(group_thumbnails(np.stack(fine)))) == 30


def test_flat_pictures_and_horizons_are_unrelated():
    rng = np.random.default_rng(0)
    flat = rng.integers(0, 256, (10, 1, 1)) + rng.integers(0, 2, (10, SIDE, SIDE))
    horizon = np.where(np.arange(SIDE)[:, None] < 16, 220, 40) + rng.integers(
        0, 6, (10, SIDE, SIDE)
    )
    ramp = np.broadcast_to(np.linspace(0, 255, SIDE), (2, SIDE, SIDE))
    grey = np.concatenate([flat, horizon, ramp]).clip(0, 255).astype(np.uint8)
    assert len(set(group_thumbnails(grey))) == 22
    assert not np.isnan(near_duplicates.correlation(*np.zeros((2, 1, SIDE, SIDE)))).any()


@pytest.mark.medium
@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.fixed_dictionaries(COPIES), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_the_order_does_not_matter_and_the_first_look_loses_nothing(found, random):
    grey = np.stack([*PICTURES_ALONE, *(thumbnail(copied(**change)) for change in found)])
    scenes = group_thumbnails(grey)
    order = list(range(len(grey)))
    random.shuffle(order)
    shuffled = group_thumbnails(grey[order])
    assert partition(scenes) == {
        frozenset(order[i] for i in scene) for scene in partition(shuffled)
    }
    detail = near_duplicates._detail(grey)
    a, b = np.triu_indices(len(grey), 1)
    alike = near_duplicates.correlation(detail[a], detail[b]) > near_duplicates.THRESHOLD
    assert (scenes == join_groups(np.arange(len(grey)), a[alike], b[alike])).all()


def test_what_is_linked_through_others_is_one_scene():
    wide = picture("china.jpg").convert("L").resize((SIDE + 12, SIDE))
    grey = np.stack([np.asarray(wide)[:, x : x + SIDE] for x in (0, 4, 8, 12)])
    detail = near_duplicates._detail(grey)
    assert near_duplicates.correlation(detail[:1], detail[3:])[0] < near_duplicates.THRESHOLD
    assert group_thumbnails(grey).tolist() == [0, 0, 0, 0]
    assert group_thumbnails(grey[[0, 3]]).tolist() == [0, 1]
    assert group_thumbnails(grey[[0, 3]], np.array([0, 0])).tolist() == [0, 0]


def test_joining_by_hand():
    assert join_groups(np.arange(5), np.array([4, 1]), np.array([3, 0])).tolist() == [0, 0, 2, 3, 3]
    assert join_groups(np.array([0, 0, 2, 3, 3]), np.array([4]), np.array([1])).tolist() == [
        0,
        0,
        2,
        0,
        0,
    ]


def test_near_copies_join_groups_and_never_split_them():
    table = pd.DataFrame({"name": list("dcba"), "group": ["y", "x", "y", "z"]})
    assert with_scenes(table, np.array([0, 1, 0, 2])) is table
    found = with_scenes(table, np.array([0, 1, 0, 1]))
    assert found is table  # two scenes cannot be three parts
    table = pd.concat([table, pd.DataFrame({"name": ["e"], "group": ["w"]})], ignore_index=True)
    assert with_scenes(table, np.array([0, 1, 0, 1, 2]))["group"].tolist() == list("yxyxw")
    names = with_scenes(table[["name"]], np.array([0, 1, 0, 2, 3]))
    assert names["group"].tolist() == list("bcbae")


def test_a_thumbnail_is_that_of_the_whole_picture(tmp_path):
    image = picture("coffee.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    for name in ("upright.png", "small.jpg", "turned.jpg"):
        options = {"exif": exif} if name.startswith("turned") else {}
        image.save(tmp_path / name, **options)
        whole = Image.fromarray(read_image(tmp_path / name))
        difference = read_thumbnail(tmp_path / name, SIDE) - thumbnail(whole).astype(float)
        assert np.abs(difference).mean() < 3
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(LabError, match=r"broken\.jpg: not a readable photograph"):
        read_thumbnail(tmp_path / "broken.jpg", SIDE)


@pytest.fixture
def root(tmp_path):
    """Each of the pictures twice, and one a third time as the same file."""
    rows = []
    for i, name in enumerate(PICTURES):
        picture(name).save(tmp_path / f"{i:02d}-a.png")
        compressed(picture(name), 40).resize((150, 100)).save(tmp_path / f"{i:02d}-b.png")
        rows += [{"name": f"{i:02d}-{which}.png", "mos": 5 * i + j} for j, which in enumerate("ab")]
    (tmp_path / "00-c.png").write_bytes((tmp_path / "00-a.png").read_bytes())
    rows.append({"name": "00-c.png", "mos": 50})
    pd.DataFrame(rows).to_csv(tmp_path / "scores.csv", index=False)
    return tmp_path


@pytest.mark.medium
def test_random_splits_keep_near_copies_together(root, monkeypatch):
    dataset = lab.load_dataset("folder", root)
    table = dataset.table
    assert table["group"].tolist() == [f"{name[:2]}-a.png" for name in table["name"]]
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert (
        "14 groups of near copies: 29 photographs, up to 3 of one scene, each scene in one split"
        in dataset.manifest.notes
    )
    # Another order and another time: the same, and no photograph is looked at again.
    scores = pd.read_csv(root / "scores.csv")
    scores.sample(frac=1, random_state=0).to_csv(root / "scores.csv", index=False)
    monkeypatch.setattr(near_duplicates, "read_thumbnail", None)
    again = lab.load_dataset("folder", root).table.set_index("name")
    assert again.loc[table["name"], "group"].tolist() == table["group"].tolist()
    assert again.loc[table["name"], "split"].tolist() == table["split"].tolist()


def test_other_splits_stay_and_the_count_is_said(root, tmp_path_factory):
    rows = pd.read_csv(root / "scores.csv")
    rows["split"] = np.where(rows["name"].str.contains("-b"), "test", "train")
    rows.loc[rows["name"].str[:2] == "01", "split"] = "test"
    rows.loc[rows["name"].str[:2] == "02", "split"] = "val"
    split = str(tmp_path_factory.mktemp("split") / "split.csv")
    rows[["name", "split"]].to_csv(split, index=False)
    dataset = lab.load_dataset("folder", root, split_scheme=split)
    assert dataset.table["split"].tolist() == rows["split"].tolist()
    said = "12 of 14 test photographs have a near copy in train"
    assert said in dataset.manifest.notes
    found = lab.check_dataset("folder", root, split_scheme=split).set_index("what")
    assert found.loc[said, "severity"] == "info"
    assert "03-a.png (train) = 03-b.png (test)" in found.loc[said, "names"]
    assert "14 groups of near copies: 29 photographs, up to 3 of one scene" in found.index


def test_thumbnails_are_made_once(root, monkeypatch):
    paths = sorted(root.glob("*.png"))[:3]
    names = [f"made once {i}" for i in range(3)]
    made = thumbnails(paths, names)
    monkeypatch.setattr(near_duplicates, "read_thumbnail", None)
    assert (thumbnails(paths[::-1], names[::-1]) == made[::-1]).all()
