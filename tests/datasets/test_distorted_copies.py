"""Damaged copies: what their names say was done, and nothing is done twice."""

import numpy as np
import pytest

import dpiqa_lab as lab
from dpiqa_lab.datasets.distortions import (
    DISTORTIONS,
    draw_distortions,
    strengths,
    to_floats,
    to_pillow,
)
from dpiqa_lab.datasets.image_set import unlabelled_photographs
from tests.conftest import photographs


@pytest.fixture
def dataset(tmp_path):
    photographs(tmp_path / "photos", 12).to_csv(tmp_path / "photos" / "scores.csv", index=False)
    return lab.load_dataset("folder", tmp_path / "photos", mos_range=(0, 100), image_size=64)


def test_copies_are_damaged_as_their_names_say_and_made_once(dataset, tmp_path):
    folder = lab.datasets.write_distorted_copies(dataset, tmp_path / "copies", 9, seed=3)
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 9
    for name in names:
        place, kinds = name.removesuffix(".png").split("-", 1)
        known = strengths(kinds.replace("_0.", ":0.").replace("_1.", ":1."))
        assert 1 <= len(known) <= 2
        assert known.keys() <= DISTORTIONS.keys()
        rng = np.random.default_rng([3, int(place)])
        whole = to_floats(to_pillow(dataset[int(place)]["image"].permute(1, 2, 0).numpy()))
        image, _ = draw_distortions(whole, int(rng.integers(1, 3)), rng)
        assert np.array_equal(lab.read_image(folder / name), np.asarray(to_pillow(image)))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / names[0]).unlink()
    lab.datasets.write_distorted_copies(dataset, folder, 9, seed=3)
    after = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert after.keys() == before.keys()
    assert {path.name for path in after if after[path] != before[path]} == {names[0]}
    table = unlabelled_photographs(str(folder), "error", set(dataset.table["hash"]))
    assert sorted(table["name"]) == names


@pytest.mark.parametrize("count", [0, 13])
def test_more_copies_than_photographs_are_refused(dataset, tmp_path, count):
    with pytest.raises(lab.LabError, match=f"count must be 1 to 12.* got {count}"):
        lab.datasets.write_distorted_copies(dataset, tmp_path / "copies", count)
    assert not (tmp_path / "copies").exists()
