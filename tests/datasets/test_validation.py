"""The doctor: names every planted fault, and nothing in a healthy folder."""

import dataclasses
from itertools import chain

import pandas as pd
import pytest

import dpiqa_lab as lab
from dpiqa_lab.__main__ import main
from dpiqa_lab.datasets.dataset_config import DatasetConfig
from dpiqa_lab.training.teacher_config import TrainConfig
from tests.conftest import BIQ, needs_biq, photographs
from tests.support import trees

LABELS = "koniq10k_distributions_sets.csv"
FOLDER = "1024x768"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "koniq"
    trees.koniq(root)
    return root


def _told(found, severity=None):
    rows = found if severity is None else found[found["severity"] == severity]
    return "\n".join(f"{row.what}: {'; '.join(row.names)}" for row in rows.itertuples())


@pytest.mark.parametrize("name", trees.MAKERS)
def test_a_healthy_folder_has_no_finding(name, tmp_path):
    trees.MAKERS[name](tmp_path / name)
    found = lab.check_dataset(name, root=tmp_path / name)
    told = _told(found[found["severity"] != "info"])
    if name == "tid2013":  # its release is so
        assert told.startswith("12 names differ in case")
        assert "\n" not in told
    else:
        assert told == ""


def _table(root, change):
    table = pd.read_csv(root / LABELS)
    table = change(table)
    table.to_csv(root / LABELS, index=False)


def _set(row, column, value):
    def change(table):
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table

    return change


def plant_missing(root):
    (root / FOLDER / "3.jpg").unlink()


def plant_truncated(root):
    path = root / FOLDER / "4.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def plant_empty(root):
    (root / FOLDER / "5.jpg").write_bytes(b"")


def plant_copy(root):  # 4 and 8 are both of the train part
    (root / FOLDER / "8.jpg").write_bytes((root / FOLDER / "4.jpg").read_bytes())


def plant_nan(root):
    _table(root, _set(6, "MOS", float("nan")))


def plant_range(root):
    _table(root, _set(7, "MOS", 188.5))


def plant_case(root):
    (root / FOLDER / "9.jpg").rename(root / FOLDER / "9.JPG")


def plant_column(root):
    _table(root, lambda table: table.assign(MOS_old=table["MOS"]))


def plant_separator(root):
    path = root / LABELS
    path.write_text(path.read_text().replace(",", ";"))


def plant_level(root):
    inner = root.with_name("moved")
    root.rename(inner)
    root.mkdir()
    inner.rename(root / "koniq10k")


def plant_overlap(root):  # 4 is of train, 7 of test
    (root / FOLDER / "7.jpg").write_bytes((root / FOLDER / "4.jpg").read_bytes())


def plant_page(root):
    (root / FOLDER / "10.jpg").write_bytes(b"<!DOCTYPE html><html>quota exceeded</html>")


FAULTS = [
    (plant_missing, "error", "1 of 20 photographs are missing: 1024x768/3.jpg"),
    (plant_truncated, "error", "1 of 20 photographs cannot be read: 1024x768/4.jpg"),
    (plant_empty, "error", "1 of 20 photographs cannot be read: 1024x768/5.jpg"),
    (plant_copy, "warning", "1 photographs are copies of others by content: "
     "1024x768/4.jpg (train) = 1024x768/8.jpg (train)"),
    (plant_nan, "error", f"1 scores that are no finite number: {LABELS} row 8: 1024x768/6.jpg"),
    (plant_range, "error", f"1 scores outside 0 to 100: {LABELS} row 9: 1024x768/7.jpg: 188.5"),
    (plant_case, "warning", "1 names differ in case from their files; they are used "
     "nevertheless: 1024x768/9.jpg is 9.JPG"),
    (plant_column, "warning", f"{LABELS} has 1 columns that the release has not; they are not "
     "used: 'MOS_old'"),
    (plant_separator, "warning", f"{LABELS} is separated by ';', in the release by ','"),
    (plant_level, "error", f"wrong folder level: {LABELS} is in "),
    (plant_overlap, "error", "2 photographs with equal content are in different splits: "
     "1024x768/4.jpg (train) = 1024x768/7.jpg (test)"),
    (plant_page, "error", "1 of 20 photographs cannot be read: 1024x768/10.jpg"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "severity", "told"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS]
)
def test_each_planted_fault_is_named(plant, severity, told, root):
    plant(root)
    found = lab.check_dataset("koniq", root=root)
    assert told in _told(found, severity)
    bad = found[found["severity"] != "info"]
    # The one fault and, where the labels are elsewhere, that they cannot be read.
    assert len(bad) == (2 if plant is plant_level else 1)
    assert (bad["advice"] != "").all() or plant in (plant_case, plant_level)


def test_what_is_wrong_with_a_photograph_is_said(root):
    for plant in (plant_truncated, plant_empty, plant_page):
        plant(root)
    (row,) = lab.check_dataset("koniq", root=root).query("severity == 'error'").itertuples()
    assert row.what == "3 of 20 photographs cannot be read"
    for name, cause in [("4.jpg", "truncated"), ("5.jpg", "empty"), ("10.jpg", "web page")]:
        assert any(name in text and cause in text.lower() for text in row.names)


def test_faults_of_every_kind_are_told_at_once(root):
    planted = [fault for fault in FAULTS if fault[0] not in (plant_level, plant_overlap)]
    for plant, *_ in planted:
        if plant is not plant_copy:
            plant(root)
    (root / FOLDER / "13.jpg").write_bytes((root / FOLDER / "12.jpg").read_bytes())
    found = lab.check_dataset("koniq", root=root)
    told = _told(found)
    for text in ("3.jpg", "4.jpg", "5.jpg", "12.jpg (train) = 1024x768/13.jpg", "row 8", "188.5"):
        assert text in told
    for text in ("9.JPG", "'MOS_old'", "separated by ';'", "10.jpg"):
        assert text in told
    severities = found["severity"].tolist()
    assert severities == sorted(severities, key=["error", "warning", "info"].index)


def test_a_root_one_level_too_deep_is_told(root):
    found = lab.check_dataset("koniq", root=root / FOLDER)
    assert f"{LABELS} is in {root}, not in {root / FOLDER}" in _told(found, "error")


def test_photographs_one_level_too_deep_are_told(root):
    (root / FOLDER).rename(root / "moved")
    (root / FOLDER).mkdir()
    (root / "moved").rename(root / FOLDER / FOLDER)
    told = _told(lab.check_dataset("koniq", root=root), "error")
    assert "20 missing photographs are in 1024x768/1024x768/, expected in 1024x768/" in told


def test_without_labels_the_photographs_are_looked_at_all_the_same(root):
    plant_empty(root)
    (root / LABELS).unlink()
    told = _told(lab.check_dataset("koniq", root=root), "error")
    assert f"{LABELS}: no such label file" in told
    assert "1 of 20 photographs cannot be read: 1024x768/5.jpg" in told


def test_a_split_file_that_overlaps(root, tmp_path):
    rows = pd.DataFrame({"name": [f"{FOLDER}/{i}.jpg" for i in range(20)], "split": "train"})
    rows.loc[10:, "split"] = "test"
    rows = pd.concat([rows, rows.head(1).assign(split="test")])
    rows.to_csv(tmp_path / "split.csv", index=False)
    told = _told(
        lab.check_dataset("koniq", root=root, split_scheme=str(tmp_path / "split.csv")), "error"
    )
    assert "split.csv: names given twice" in told
    assert f"{FOLDER}/0.jpg" in told


def test_a_split_that_parts_a_reference(tmp_path):
    trees.kadid10k(tmp_path)
    names = pd.read_csv(tmp_path / "dmos.csv")["dist_img"]
    parts = ["train", "train", "test"] * 8
    rows = pd.DataFrame({"name": "images/" + names, "split": parts})
    rows.to_csv(tmp_path / "split.csv", index=False)
    split = str(tmp_path / "split.csv")
    told = _told(lab.check_dataset("kadid10k", root=tmp_path, split_scheme=split), "error")
    assert "4 groups are in different splits: I01.png" in told
    with pytest.warns(UserWarning, match="4 groups are in different splits"):
        lab.load_dataset("kadid10k", root=tmp_path, split_scheme=split)


def test_more_labels_than_the_release(root, monkeypatch):
    from dpiqa_lab.datasets.specs import SPECS

    monkeypatch.setattr(SPECS["koniq"].__class__, "expected", lambda self, options: 12)
    told = _told(lab.check_dataset("koniq", root=root), "warning")
    assert "20 labels, the release has 12" in told


def test_a_missing_folder(tmp_path):
    found = lab.check_dataset("koniq", root=tmp_path / "nowhere")
    assert "no folder" in _told(found, "error")
    assert "koniq-10k-database" in _told(found)


@needs_biq
@pytest.mark.medium
def test_a_subset_is_no_error():
    found = lab.check_dataset("biq2021", root=BIQ)
    held = len(lab.load_dataset("biq2021", root=BIQ))
    assert f"subset: {held:,} of 12,000" in _told(found, "info")
    assert "error" not in set(found["severity"])


@pytest.mark.medium
def test_command_line(root, capsys):
    assert main(["check", "koniq", "--root", str(root), "--backbone", "tiny"]) == 0
    said = capsys.readouterr().out
    assert "subset: 20 of 10,073" in said
    # 20 photographs x 4 channels x 64 x 64 positions x 4 bytes
    assert "latents: 1.3 MB" in said
    assert "computed" in said
    plant_missing(root)
    assert main(["check", "koniq", "--root", str(root), "--backbone", "tiny"]) == 1
    assert "1024x768/3.jpg" in capsys.readouterr().out
    assert main(["check", "koniqq"]) == 2


def test_an_own_folder_read_the_wrong_way(tmp_path):
    trees.write_pictures(tmp_path, [f"{i}.jpg" for i in range(20)])
    rows = pd.DataFrame({"Datei": [f"{i}.jpg" for i in range(20)], "Note": [1.5, 4.5] * 10})
    rows.to_csv(tmp_path / "votes.csv", index=False, sep=";")
    told = _told(lab.check_dataset("folder", root=tmp_path), "error")
    assert "its columns are 'Datei', 'Note'. Name yours by name_column, mos_column" in told
    columns = {"name_column": "Datei", "mos_column": "Note"}
    told = _told(lab.check_dataset("folder", root=tmp_path, **columns), "warning")
    assert "scores from 1.5 to 4.5 on a scale from 0 to 100" in told
    with pytest.warns(UserWarning, match="set mos_range if the scale differs"):
        lab.load_dataset("folder", root=tmp_path, **columns)
    found = lab.check_dataset("folder", root=tmp_path, mos_range=(1, 5), **columns)
    assert "scores from" not in _told(found)


def test_a_missing_folder_is_named_once(tmp_path):
    found = lab.check_dataset("folder", root=tmp_path / "photo")
    assert found["what"].tolist() == [f"no folder {tmp_path / 'photo'}"]


@pytest.fixture
def rated(tmp_path):
    """Thirty photographs in a folder of one's own whose labels want every parameter of reading."""
    folder = tmp_path / "photos"
    table = photographs(folder, 30)
    table = table.rename(columns={"name": "file", "mos": "dmos"})
    table.assign(scene=[f"s{i // 2}" for i in range(30)]).to_csv(folder / "votes.csv", index=False)
    return folder


# One value that is not the default for every field, and one of a wrong type or impossible.
READING = {
    "dataset": ("folder", 5),
    "data_root": ("photos", 5),
    "split_scheme": ("random-3", 5),
    "split_seed": (4, "x"),
    "on_bad_image": ("skip", "leave"),
    "keep_training_images": (True, "yes"),
    "labels": ("votes.csv", 5),
    "name_column": ("file", 5),
    "mos_column": ("dmos", 5),
    "group_column": ("scene", 5),
    "mos_range": ("0,101", "5,1"),
    "lower_better": (True, "yes"),
    "image_size": (64, 0),
}


def test_every_parameter_of_reading_is_checked_as_a_training_reads_it(rated, monkeypatch, capsys):
    assert set(READING) == {field.name for field in dataclasses.fields(DatasetConfig)}
    monkeypatch.chdir(rated.parent)
    right = {name: value for name, (value, _) in READING.items()}
    words = ["check", right.pop("dataset"), "--backbone", "tiny"]
    given = {name: ["-p", name, str(value)] for name, value in right.items()}
    assert main([*words, *chain(*given.values())]) == 0
    said = capsys.readouterr().out
    assert "scores 0 to 101 (lower is better)" in said
    config = TrainConfig.from_parameters({"dataset": "folder", "backbone": "tiny", **right})
    trained = lab.load_dataset("folder", **config.dataset_options())
    counts = trained.table["split"].value_counts()
    assert f"seed 3: train {counts['train']}, val {counts['val']}, test {counts['test']}" in said
    for name, (_, wrong) in READING.items():
        if name == "dataset":
            continue
        others = chain(*(pair for other, pair in given.items() if other != name))
        assert main([*words, *others, "-p", name, str(wrong)]) == 2, name
        assert name in capsys.readouterr().err
        if name != "data_root":
            with pytest.raises(lab.LabError, match=name):
                lab.check_dataset("folder", rated, **{name: wrong})


def test_a_misspelt_parameter_is_named(rated):
    with pytest.raises(lab.LabError, match="Did you mean 'lower_better'"):
        lab.check_dataset("folder", rated, lower_beter=True)


@pytest.mark.medium
def test_photographs_that_are_left_out_are_no_error(rated, capsys):
    (rated / "p003.png").unlink()
    (rated / "p004.png").write_bytes(b"no picture")
    columns = {"name_column": "file", "mos_column": "dmos"}
    words = ["check", "folder", "--root", str(rated), "--backbone", "tiny"]
    words += [part for name, value in columns.items() for part in ("-p", name, value)]
    assert main(words) == 1
    assert main([*words, "-p", "on_bad_image", "skip"]) == 0
    capsys.readouterr()
    found = lab.check_dataset("folder", rated, on_bad_image="skip", **columns)
    assert "1 of 30 photographs are missing: p003.png" in _told(found, "warning")
    dataset = lab.load_dataset("folder", rated, on_bad_image="skip", **columns)
    counts = dataset.table["split"].value_counts()
    parts = ", ".join(f"{part} {counts[part]}" for part in ("train", "val", "test"))
    assert parts in _told(found, "info")
    for path in rated.glob("*.png"):
        path.write_bytes(b"no picture")
    assert main([*words, "-p", "on_bad_image", "skip"]) == 1  # nothing is left
