import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.datasets.distortions import DISTORTIONS
from dpiqa_lab.datasets.prior_views import list_photographs, make_views

WIDTH, HEIGHT, SIZE = 90, 80, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """45 pictures whose red and green are the place of a pixel."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)
    for i in range(45):
        blue = np.full_like(x, i)
        kind = "beach" if i % 9 else "forest"
        Image.fromarray(np.stack([x, y, blue], 2)).save(folder / f"{kind}{i:02d}.png")
    return folder


def test_photographs_are_listed_by_folder_names_and_pattern(folder, tmp_path):
    assert len(list_photographs(folder)) == 45
    assert len(list_photographs(folder, pattern="beach*")) == 40
    names = tmp_path / "names.csv"
    pd.DataFrame({"Image": [f"BEACH{i:02d}.PNG" for i in range(45)], "mos": 0}).to_csv(
        names, index=False
    )
    assert [p.name for p in list_photographs(folder, names)][:2] == ["beach01.png", "beach02.png"]
    with pytest.raises(LabError, match="holds 5 photographs that match 'forest"):
        list_photographs(folder, pattern="forest*")
    with pytest.raises(LabError, match="no folder"):
        list_photographs(folder / "nowhere")
    with pytest.raises(LabError, match="no file"):
        list_photographs(folder, folder / "nothing.csv")


def test_views_are_parts_of_their_photographs(folder, tmp_path):
    photographs = list_photographs(folder)
    views = make_views(photographs, tmp_path, views=4, size=SIZE, workers=0)
    assert views.pixels.shape == (180, SIZE, SIZE, 3)
    whole = views.table["damage"] == "none"
    assert 0.25 < whole.mean() < 0.55
    kinds = {
        part.split(":")[0] for text in views.table["damage"][~whole] for part in text.split("+")
    }
    assert kinds == set(DISTORTIONS)
    own = 0
    for image in views.pixels[whole.to_numpy()]:
        x, y = image[:, :, 0].astype(int), image[:, :, 1].astype(int)
        across = np.diff(x[0])
        if set(across) in ({1}, {-1}):  # at the photograph's own resolution, mirrored or not
            own += 1
            assert (np.diff(x, axis=1) == across[0]).all()
            assert (np.diff(y, axis=0) == 1).all()
            assert x.max() < WIDTH
            assert y.max() < HEIGHT
    assert 0.3 < own / whole.sum() < 0.8
    held_out = views.table[views.table["split"] == "val"]["photograph"]
    assert set(held_out) == {photographs[i].name for i in (0, 20, 40)}
    assert len(views.positions("train")) == 42 * 4


def test_views_depend_on_the_seed_and_are_made_once(folder, tmp_path):
    photographs = list_photographs(folder)[:6]
    options = {"views": 2, "size": SIZE}
    one = make_views(photographs, tmp_path, **options, workers=0)
    (file,) = tmp_path.glob("*/pixels.npy")
    written = file.stat().st_mtime_ns
    make_views(photographs, tmp_path, **options, workers=0)
    assert file.stat().st_mtime_ns == written
    same = make_views(photographs, tmp_path / "other", **options, workers=2)
    np.testing.assert_array_equal(one.pixels, same.pixels)
    pd.testing.assert_frame_equal(one.table, same.table)
    other = make_views(photographs, tmp_path, **options, seed=1, workers=0)
    assert (one.pixels != other.pixels).any()


def test_luminance_is_told_of_the_undamaged_view(tmp_path):
    path = tmp_path / "grey.png"
    Image.new("RGB", (WIDTH, HEIGHT), (102,) * 3).save(path)
    views = make_views([path], tmp_path, views=12, size=SIZE, workers=0)
    assert views.table["luminance"].tolist() == [0.4] * 12
    assert np.ptp(views.pixels.mean((1, 2, 3))) > 20  # some were exposed otherwise


def test_photographs_too_small_or_unreadable_are_all_named(folder, tmp_path):
    photographs = list_photographs(folder)[:2]
    with pytest.raises(LabError, match=r"256x256 pixels and more(.|\n)*h01.png is 90x80(.|\n)*h02"):
        make_views(photographs, tmp_path, workers=0)
    bad = [tmp_path / f"bad{i}.png" for i in range(2)]
    for path in bad:
        path.write_bytes(photographs[0].read_bytes()[:200])
    with pytest.raises(LabError, match=r"cannot be read:(.|\n)*bad0.png(.|\n)*bad1.png"):
        make_views([*photographs, *bad], tmp_path, size=SIZE, workers=2)
    assert not list(tmp_path.glob("*/views.csv"))
