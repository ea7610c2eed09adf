"""Cache entries cut, flipped and mixed up: found, computed again, never believed."""

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dpiqa_lab.core.cache import RowCache, cache_table, clear_cache
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.files import tensors_hash
from dpiqa_lab.datasets.prior_views import list_photographs, make_views

pytestmark = pytest.mark.medium

RIGHT = [[0.0, 1.0], [2.0, 3.0]]


def _rows(cache, ids=("a", "b")):
    return cache.rows(list(ids), lambda at: {"row": torch.tensor(RIGHT)[at]})["row"].tolist()


@pytest.fixture
def entry(tmp_path):
    cache = RowCache("test", {"k": 1}, tmp_path)
    _rows(cache)
    (part,) = cache.folder.glob("*.safetensors")
    return cache, part, part.read_bytes()


def _damaged(entry, content):
    cache, part, _ = entry
    for other in cache.folder.glob("*.safetensors"):
        other.unlink()
    part.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert _rows(cache) == RIGHT


def test_cut_at_each_length_it_gives_the_right_rows(entry):
    whole = entry[2]
    assert len(whole) < 1000
    for length in range(len(whole)):
        _damaged(entry, whole[:length])


def test_with_any_byte_changed_it_gives_the_right_rows(entry):
    whole = entry[2]
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        _damaged(entry, bytes(changed))


def _as_lab_writes(path, rows, ids):
    save_file(rows, path, {"ids": json.dumps(ids), "sha256": tensors_hash(rows)})


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        ({"row": torch.zeros(2, 3)}, ["x", "y"]),  # of another shape than the rest
        ({"row": torch.zeros(2, 2, dtype=torch.float64)}, ["x", "y"]),
        ({"other": torch.zeros(2, 2)}, ["x", "y"]),
        ({"row": torch.zeros(2, 2)}, ["x"]),  # not a row an id
        ({"row": torch.zeros(2, 2)}, ["x", "y", "z"]),
        ({"row": torch.tensor(1.0)}, ["x"]),
        ({"row": torch.zeros(2, 2)}, 7),
        ({}, []),
    ],
)
def test_a_file_that_does_not_fit_the_others_is_not_believed(entry, rows, ids):
    cache = entry[0]
    _as_lab_writes(cache.folder / "000.safetensors", rows, ids)
    with pytest.warns(UserWarning, match="damaged cache file"):
        assert _rows(cache, ("a", "b", "b")) == [*RIGHT, RIGHT[1]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _rows(cache) == RIGHT  # and it stays mended
    (part,) = [p for p in cache.folder.glob("*.safetensors") if p.name != "000.safetensors"]
    with safe_open(part, "pt") as file:
        assert json.loads(file.metadata()["ids"]) == ["a", "b"]


def test_a_damaged_key_keeps_the_cache_listed_and_cleared(entry, tmp_path):
    key = entry[0].folder / "key.json"
    whole = key.read_bytes()
    for length in range(len(whole)):
        key.write_bytes(whole[:length])
        (row,) = cache_table(tmp_path)
        assert row["kind"] == "test"
        assert row["key"] in ({}, {"k": 1})
        assert _rows(entry[0]) == RIGHT
        key.write_bytes(whole[:length])
    assert clear_cache(root=tmp_path) == 1
    assert cache_table(tmp_path) == []
    # The lock's file may stay.
    assert not list(entry[0].folder.glob("[!.]*"))


class _Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


def test_views_with_objects_for_pixels_run_nothing(pictures_folder, tmp_path):
    photographs = list_photographs(pictures_folder)
    views = make_views(photographs, tmp_path / "views", views=1, workers=0)
    assert len(views.pixels) == 40
    path = tmp_path / "views" / views.key / "pixels.npy"
    del views
    np.save(path, np.array([_Touch(tmp_path / "it-ran")], object), allow_pickle=True)
    with pytest.raises(LabError, match=r"damaged views .*delete this folder"):
        make_views(photographs, tmp_path / "views", views=1, workers=0)
    assert not (tmp_path / "it-ran").exists()
    np.load(path, allow_pickle=True)
    assert (tmp_path / "it-ran").exists()
