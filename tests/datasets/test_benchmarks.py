"""Every benchmark's reader: on small trees in its format, and on its real labels where they are."""

import shutil

import numpy as np
import pandas as pd
import pytest
import scipy.io

import dpiqa_lab as lab
from dpiqa_lab.datasets.manifests import read_labels
from dpiqa_lab.datasets.specs import SPECS
from dpiqa_lab.datasets.split_schemes import assign_split
from dpiqa_lab.datasets.validation_checks import check_labels, numbers
from tests.conftest import LABELS, REPOSITORY, needs_labels
from tests.support import trees
from tools.data_readme import data_readme

# Folder among the real label files, and the release's numbers: photographs, parts, ends of MOS.
REAL = {
    "koniq": ("koniq10k", 10_073, {"train": 7_058, "val": 1_000, "test": 2_015}),
    "clive": ("clive", 1_162, None),
    "livefb": ("flive", 39_810, {"train": 37_983, "test": 1_827}),
    "spaq": ("spaq", 11_125, None),
}


@pytest.mark.parametrize("name", trees.MAKERS)
def test_every_layout_loads(name, tmp_path):
    trees.MAKERS[name](tmp_path / name)
    ds = lab.load_dataset(name, root=tmp_path / name)
    table = ds.table
    assert len(table) == (24 if name in ("kadid10k", "tid2013") else 20)
    assert set(table["split"]) == {"train", "val", "test"}
    assert table["mos"].between(0, 1).all()
    assert ds[3]["image"].shape == (3, 16, 16)
    assert f"of {SPECS[name].count:,}" in " ".join(ds.manifest.notes)


@pytest.mark.parametrize(
    ("name", "photograph", "mos"),
    [  # (score - low) / (high - low), all of them: higher is better
        ("koniq", "1024x768/19.jpg", 0.88),
        ("clive", "Images/19.jpg", 0.92),
        ("livefb", "blur_dataset/19.jpg", 0.94),
        ("spaq", "TestImage/00001.jpg", 0.02),
        ("biq2021", "Images/ss02 (1).jpg", 0.05),
        ("kadid10k", "images/I01_01_01.png", (4.2 - 1) / 4),
        ("tid2013", "distorted_images/I01_01_1.bmp", 0.25 / 9),
    ],
)
def test_scores_by_hand(name, photograph, mos, tmp_path):
    trees.MAKERS[name](tmp_path / name)
    table = lab.load_dataset(name, root=tmp_path / name).table.set_index("name")
    assert table.loc[photograph, "mos"] == pytest.approx(mos)


def test_koniqs_other_release_is_read_by_its_zscore(tmp_path):
    trees.koniq(tmp_path, other=True)
    ds = lab.load_dataset("koniq", root=tmp_path)
    assert ds.table["mos"].max() == pytest.approx(0.88)
    assert ds.manifest.split.startswith("random split")
    with pytest.raises(lab.LabError, match="no official split"):
        lab.load_dataset("koniq", root=tmp_path, split_scheme="official")


def test_koniqs_release_with_parts_comes_first(tmp_path):
    trees.koniq(tmp_path, other=True)
    trees.koniq(tmp_path)
    assert lab.load_dataset("koniq", root=tmp_path).manifest.split == "official split"


def test_clive_with_and_without_the_subjects_training_images(tmp_path):
    trees.clive(tmp_path)
    names = lab.load_dataset("clive", root=tmp_path).table["name"]
    assert not names.str.contains("training").any()
    kept = lab.load_dataset("clive", root=tmp_path, keep_training_images=True)
    assert len(kept) == len(names) + 7
    assert kept.table["path"].map(lambda path: path.is_file()).all()
    assert "subset: 27 of 1,169" in kept.manifest.notes


def test_clive_files_of_two_releases_are_refused(tmp_path):
    trees.clive(tmp_path)
    scores = {"AllMOS_release": np.ones((1, 5))}
    scipy.io.savemat(tmp_path / "Data" / "AllMOS_release.mat", scores)
    with pytest.raises(lab.LabError, match=r"27 names, .*AllMOS_release\.mat 5 scores"):
        lab.load_dataset("clive", root=tmp_path)
    (tmp_path / "Data" / "AllMOS_release.mat").write_bytes(b"no MATLAB file, but long enough" * 9)
    with pytest.raises(lab.LabError, match=r"AllMOS_release\.mat: not a readable MATLAB file"):
        lab.load_dataset("clive", root=tmp_path)


def test_livefb_test_part_is_that_of_labels640(tmp_path):
    trees.livefb(tmp_path)
    table = lab.load_dataset("livefb", root=tmp_path).table
    test = pd.read_csv(tmp_path / "labels640.csv")["name_image"]
    assert set(table["name"][table["split"] == "test"]) == set(test)
    other = lab.load_dataset("livefb", root=tmp_path, split_scheme="random-2")
    assert other.manifest.split == "random split 70/10/20, seed 2"
    assert set(other.table["name"][other.table["split"] == "test"]) != set(test)


def test_spaq_sheet_in_annotations(tmp_path):
    trees.spaq(tmp_path)
    (tmp_path / "Annotations").mkdir()
    file = "MOS and Image attribute scores.xlsx"
    (tmp_path / file).rename(tmp_path / "Annotations" / file)
    assert len(lab.load_dataset("spaq", root=tmp_path)) == 20
    (tmp_path / "Annotations" / file).write_bytes(b"no sheet")
    with pytest.raises(lab.LabError, match=r"scores\.xlsx: not a readable table"):
        lab.load_dataset("spaq", root=tmp_path)


def test_tid2013_lines_of_another_form_are_named(tmp_path):
    trees.tid2013(tmp_path)
    path = tmp_path / "mos_with_names.txt"
    path.write_text(path.read_text().replace(" I02_01_1", ",I02_01_1"))
    with pytest.raises(lab.LabError, match=r"1 lines that are not(.|\n)*line 7: .*I02_01_1"):
        lab.load_dataset("tid2013", root=tmp_path)


@pytest.mark.parametrize(("name", "shape"), [("kadid10k", (81, 25, 5)), ("tid2013", (25, 24, 5))])
def test_no_reference_is_in_two_parts(name, shape, tmp_path):
    trees.MAKERS[name](tmp_path, *shape, pictures=False)
    spec = SPECS[name]
    table = read_labels(spec, tmp_path, {})
    assert len(table) == spec.count
    assert table["group"].nunique() == spec.references
    tests = set()
    for seed in range(10):
        parts, _ = assign_split(table, f"random-{seed}")
        assert (parts.groupby(table["group"]).nunique() == 1).all()
        references = table["group"].groupby(parts).nunique()
        assert references["test"] == round(0.2 * spec.references)
        tests.add(frozenset(table["group"][parts == "test"]))
    assert len(tests) == 10


def test_numbered_splits_are_those_of_the_seed(tmp_path):
    trees.spaq(tmp_path)
    numbered = lab.load_dataset("spaq", root=tmp_path, split_scheme="random-7").table["split"]
    seeded = lab.load_dataset("spaq", root=tmp_path, split_scheme="random", split_seed=7).table[
        "split"
    ]
    assert numbered.tolist() == seeded.tolist()


def test_options_that_a_reader_has_not_are_named(tmp_path):
    trees.clive(tmp_path)
    with pytest.raises(lab.LabError, match="Did you mean 'keep_training_images'"):
        lab.load_dataset("clive", root=tmp_path, keep_training_image=True)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
def test_any_usual_separator(small_folder, separator):
    path = small_folder / "scores.csv"
    path.write_text(path.read_text().replace(",", separator))
    assert len(lab.load_dataset("folder", root=small_folder)) == 30


def test_decimal_commas_are_refused(small_folder):
    path = small_folder / "scores.csv"
    path.write_text(path.read_text().replace(".png,100.0", ".png,99,5").replace(",9", ",9,"))
    with pytest.raises(lab.LabError, match=r"scores\.csv"):
        lab.load_dataset("folder", root=small_folder)


def test_data_readme_is_written_from_the_specs():
    text = (REPOSITORY / "data" / "README.md").read_text(encoding="utf-8")
    assert text == data_readme(), "python -m tools.data_readme > data/README.md"


def _real(name, tmp_path):
    folder, n, parts = REAL[name]
    root = tmp_path / name
    shutil.copytree(LABELS / folder, root, copy_function=shutil.copyfile)
    return root, n, parts


def _sizes(parts):
    counts = parts.value_counts().to_dict()
    if counts.get("val") != 1_000:  # a tenth of train, where the release has none
        counts["train"] += counts.pop("val")
    return counts


@needs_labels
@pytest.mark.parametrize("name", REAL)
def test_real_labels(name, tmp_path):
    root, n, sizes = _real(name, tmp_path)
    spec = SPECS[name]
    table = read_labels(spec, root, {})
    assert len(table) == n == spec.count
    assert check_labels(table, spec, spec.mos_range) == []
    mos = numbers(table["mos_raw"])
    assert (round(mos.min(), 2), round(mos.max(), 2)) == spec.observed
    parts, _ = assign_split(table)
    if sizes:
        assert _sizes(parts) == sizes
    if name == "clive":
        assert len(read_labels(spec, root, {"keep_training_images": True})) == 1_169


@needs_labels
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in ("clive", "koniq") else pytest.mark.slow) for n in REAL],
)
@pytest.mark.medium
def test_real_labels_with_generated_photographs(name, tmp_path):
    root, n, sizes = _real(name, tmp_path)
    options = {"keep_training_images": True} if name == "clive" else {}
    every = read_labels(SPECS[name], root, options)["name"]
    trees.write_pictures(root, list(every))
    ds = lab.load_dataset(name, root=root)
    assert len(ds) == n
    assert not any("subset" in note for note in ds.manifest.notes)
    if sizes:
        assert _sizes(ds.table["split"]) == sizes
    if options:
        assert len(lab.load_dataset(name, root=root, **options)) == 1_169
    found = lab.check_dataset(name, root=root)
    assert set(found["severity"]) == {"info"}
