import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import dpiqa_lab as lab
from dpiqa_lab.datasets.split_schemes import assign_split, folds
from tests.conftest import BIQ, needs_biq, photographs


def _folder(root, **options):
    return lab.load_dataset("folder", root=root, **options)


def test_items_are_images_with_normalised_scores(small_folder):
    ds = _folder(small_folder)
    item = ds[0]
    assert item["image"].shape == (3, 64, 64)
    assert item["image"].dtype == torch.float32
    assert 0 <= item["image"].min() <= item["image"].max() <= 1
    assert item["mos"] == pytest.approx(1.0)
    assert item["name"] == "p000.png"
    assert "random split 70/10/20, seed 0" in repr(ds)


def test_range_and_direction(small_folder):
    ds = _folder(small_folder, mos_range=(-100, 100), lower_better=True)
    assert ds[0]["mos"] == pytest.approx(0.0)  # 100 of -100 to 100, lower is better
    assert ds.manifest.mos_range == (-100, 100)


def test_parts_are_disjoint_seeded_and_complete(small_folder):
    parts = {p: set(_folder(small_folder, split=p).table["name"]) for p in ("train", "val", "test")}
    assert {p: len(names) for p, names in parts.items()} == {"train": 21, "val": 3, "test": 6}
    assert len(set.union(*parts.values())) == 30
    again = set(_folder(small_folder, split="test").table["name"])
    other = set(_folder(small_folder, split="test", split_seed=1).table["name"])
    assert parts["test"] == again != other


def test_case_of_file_names_does_not_matter(small_folder):
    (small_folder / "p003.png").rename(small_folder / "P003.PNG")
    ds = _folder(small_folder)
    assert ds.table["path"][3].name == "P003.PNG"


def test_your_own_split_file(small_folder, tmp_path):
    names = pd.read_csv(small_folder / "scores.csv")["name"]
    rows = pd.DataFrame({"name": names, "split": ["train"] * 20 + ["test"] * 10})
    rows.to_csv(tmp_path / "split.csv", index=False)
    ds = _folder(small_folder, split_scheme=str(tmp_path / "split.csv"))
    assert (ds.table["split"] == "test").sum() == 10
    assert (ds.table["split"] == "val").sum() == 2
    assert "split of split.csv" in ds.manifest.split


def test_groups_stay_together_in_splits_and_folds():
    sizes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    table = pd.DataFrame({"group": np.repeat(list("abcdefghij"), sizes)})
    table["name"] = [f"n{i}" for i in table.index]
    for seed in range(5):
        parts, _ = assign_split(table, "random", seed)
        assert (parts.groupby(table["group"]).nunique() == 1).all()
        assert set(parts) == {"train", "val", "test"}
    tested = [table["group"][fold == "test"].unique() for fold in folds(table, 3)]
    assert sorted(np.concatenate(tested)) == list("abcdefghij")
    assert all((fold == "val").any() for fold in folds(table, 3))
    turned = folds(table.sample(frac=1, random_state=1), 3)
    assert [set(table["group"][fold == "test"]) for fold in turned] == [set(t) for t in tested]


def test_equal_content_in_two_parts_is_told(small_folder):
    content = (small_folder / "p000.png").read_bytes()
    for i in range(1, 30):
        (small_folder / f"p{i:03d}.png").write_bytes(content)
    with pytest.warns(UserWarning, match="30 photographs with equal content"):
        ds = _folder(small_folder)
    assert any("equal content" in note for note in ds.manifest.notes)


def _break(root, fault):
    csv = root / "scores.csv"
    table = pd.read_csv(csv)
    if fault == "missing":
        (root / "p004.png").unlink()
        (root / "p007.png").unlink()
    elif fault == "truncated":
        (root / "p005.png").write_bytes((root / "p005.png").read_bytes()[:300])
        (root / "p006.png").write_bytes(b"")
    elif fault == "nan":
        table.loc[2, "mos"] = float("nan")
    elif fault == "text":
        table["mos"] = table["mos"].astype(object)
        table.loc[2, "mos"] = "good"
    elif fault == "range":
        table.loc[2, "mos"] = 101
    elif fault == "twice":
        table = pd.concat([table, table.iloc[[2]]])
    elif fault == "column":
        table = table.rename(columns={"mos": "MOS"})
    elif fault == "escape":
        table.loc[2, "name"] = "../outside.png"
        Image.new("RGB", (64, 64)).save(root.parent / "outside.png")
    elif fault == "empty":
        table = table[:0]
    table.to_csv(csv, index=False)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", r"2 of 30 photographs cannot be used(.|\n)*p004\.png(.|\n)*p007\.png"),
        ("truncated", r"2 of 30(.|\n)*p005\.png(.|\n)*p006\.png: .*empty"),
        ("nan", r"scores that are no finite number(.|\n)*row 4: p002\.png: nan"),
        ("text", r"row 4: p002\.png: good"),
        ("range", r"outside 0 to 100 .*mos_range(.|\n)*p002\.png: 101"),
        ("twice", r"1 photographs labelled twice(.|\n)*p002\.png"),
        ("column", r"no column 'mos'; its columns are 'name', 'MOS'"),
        ("escape", r"photographs outside .*(.|\n)*outside\.png"),
        ("empty", "no rows"),
    ],
)
def test_faults_are_named(small_folder, fault, message):
    _break(small_folder, fault)
    with pytest.raises(lab.LabError, match=message):
        _folder(small_folder)


def test_bad_photographs_can_be_skipped_and_are_recorded(small_folder):
    _break(small_folder, "missing")
    _break(small_folder, "truncated")
    ds = _folder(small_folder, on_bad_image="skip")
    assert len(ds) == 26
    assert list(ds.manifest.skipped["name"]) == ["p004.png", "p005.png", "p006.png", "p007.png"]
    assert "4 photographs left out as missing or unreadable" in ds.manifest.notes


def test_photographs_without_a_label_are_told(small_folder):
    Image.new("RGB", (8, 8)).save(small_folder / "extra.png")
    assert "1 photographs without a label, not used" in _folder(small_folder).manifest.notes


def test_unknown_dataset_and_missing_root():
    with pytest.raises(lab.LabError, match=r"unknown dataset 'koniq10k'\. Did you mean 'koniq'"):
        lab.load_dataset("koniq10k")
    with pytest.raises(lab.LabError, match=r"no folder(.|\n)*KonIQ-10k(.|\n)*1024x768"):
        lab.load_dataset("koniq")


def test_koniq_layout_with_its_official_split(tmp_path):
    table = photographs(tmp_path / "512x384", 6).rename(columns={"name": "image_name"})
    table = table.rename(columns={"mos": "MOS"})
    table["set"] = ["training", "training", "training", "validation", "test", "test"]
    table.to_csv(tmp_path / "koniq10k_distributions_sets.csv", index=False)
    ds = lab.load_dataset("koniq", root=tmp_path)
    assert ds.table["split"].tolist() == ["train"] * 3 + ["val"] + ["test"] * 2
    assert ds.manifest.split == "official split"
    assert "subset: 6 of 10,073" in ds.manifest.notes


def test_biq2021_layout(tmp_path):
    table = photographs(tmp_path / "Images", 30)
    table["name"] = [f"ss0{i % 3 + 1} ({i}).jpg" for i in range(30)]
    for old, new in zip(sorted((tmp_path / "Images").iterdir()), table["name"], strict=True):
        old.rename(old.with_name(new))
    (tmp_path / "Images" / "ss01 (0).jpg").rename(tmp_path / "Images" / "ss01 (0).JPG")
    lines = [f"{row['name']},{row.mos / 100:.4f}" for _, row in table.iterrows()]
    train = "Image Name,MOS,,\n" + "".join(f"{line},,\n" for line in lines[:20])
    (tmp_path / "Train (Images and MOS).csv").write_text(train)
    (tmp_path / "Test (Images and MOS).csv").write_text("Image Name,MOS\n" + "\n".join(lines[20:]))
    ds = lab.load_dataset("biq2021", root=tmp_path)
    assert ds.table["split"].value_counts().to_dict() == {"train": 18, "val": 2, "test": 10}
    assert set(ds.table["subset"]) == {"ss01", "ss02", "ss03"}
    assert ds.table["mos"][0] == pytest.approx(1.0)


@needs_biq
@pytest.mark.medium
def test_real_biq2021_subset():
    ds = lab.load_dataset("biq2021", root=BIQ)
    # How much of the dataset stands there is another matter; its lists say what does.
    rows = {part: len(pd.read_csv(next(BIQ.glob(f"{part} *.csv")))) for part in ("Train", "Test")}
    val = round(rows["Train"] / 10)
    counts = {"train": rows["Train"] - val, "val": val, "test": rows["Test"]}
    assert ds.table["split"].value_counts().to_dict() == counts
    assert len(ds) < 12000
    assert f"subset: {len(ds):,} of 12,000" in ds.manifest.notes
    assert (ds.table["path"].map(lambda p: p.name) == "ss02 (1014).JPG").sum() == 1
    assert ds.table[["height", "width"]].ne(512).any(axis=1).sum() < 12
    row = ds.table.index[ds.table["name"] == "Images/ss01 (1457).jpg"]
    if len(row):  # the constant one
        assert ds[int(row[0])]["image"].std() < 0.01
