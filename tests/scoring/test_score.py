"""Scoring in bulk: every photograph once, whatever happens meanwhile."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import dpiqa_lab as lab
from dpiqa_lab.__main__ import main
from dpiqa_lab.nn.int8 import int8_kernels
from dpiqa_lab.scoring.scores_csv import files_path, open_sheet
from tests.conftest import photographs, small_student

ODD = ["a,b.png", 'say "a".png', "two\nlines.png", "café.png", "sub/r\rt.png", 'sub/deep/é,\n".png']


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """69 photographs of many sizes in sub-folders, four files that are none, and links."""
    root = tmp_path_factory.mktemp("album")
    photographs(root, 60, size=40)
    rng = np.random.default_rng(1)
    for i, name in enumerate([*ODD, "wide.jpg", "tall.webp", "dot.gif"]):
        size = [(9 + 37 * i % 200, 11 + 53 * i % 170), (900, 3), (2, 300), (1, 1)][max(0, i - 5)]
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(root / name)
    (root / "p0200.png").write_bytes((root / "p020.png").read_bytes()[:200])
    (root / "p0300.jpg").write_bytes(b"")
    (root / "p0400.jpg").write_text("<!doctype html>")
    (root / "sub" / "itself.png").symlink_to("itself.png")
    os.mkfifo(root / "sub" / "pipe.jpg")
    (root / "sub" / "loop").symlink_to(root)
    return root


BAD = ["p0200.png", "p0300.jpg", "p0400.jpg", "sub/itself.png", "sub/pipe.jpg"]


@pytest.fixture(scope="module")
def whole(album, student_folder, tmp_path_factory):
    """The files of a scoring that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "scores.csv"
    arguments = ["score", str(album), "--model", str(student_folder), "--out", str(out)]
    assert main([*arguments, "--device", "cpu", "--batch-size", "2"]) == 1
    return out


def _contents(out):
    return [out.read_bytes(), out.with_name(f"{out.stem}-unreadable.csv").read_bytes()]


@pytest.mark.medium
def test_every_photograph_has_one_row_or_a_reason(album, whole, student_folder):
    table = pd.read_csv(whole)
    assert list(table) == ["name", "score"]
    assert set(ODD) <= set(table["name"])
    assert len(table) == table["name"].nunique() == 69
    assert list(table["name"]) == sorted(table["name"])
    expected = lab.load_model(student_folder).score(
        [album / name for name in table["name"]], device="cpu"
    )
    assert np.allclose(table["score"], expected, atol=1e-5)
    assert np.ptp(expected) > 0.1
    unreadable = pd.read_csv(whole.with_name("scores-unreadable.csv"))
    assert list(unreadable["name"]) == BAD
    reasons = dict(unreadable.to_numpy())
    assert "truncated" in reasons["p0200.png"]
    assert "the file is empty" in reasons["p0300.jpg"]
    assert "web page" in reasons["p0400.jpg"]
    assert "symbolic links" in reasons["sub/itself.png"]
    assert "pipe" in reasons["sub/pipe.jpg"]
    record = json.loads(whole.with_suffix(".json").read_text())
    assert record["direction"] == "higher is better"
    assert "not clipped" in record["score"]
    assert record["trained_on"] == "student.pth"
    assert record["folder"] == str(album)


@pytest.mark.medium
def test_cut_off_at_any_byte_it_ends_with_the_same_bytes(whole, tmp_path):
    """The sheet alone: every length that a kill could leave behind."""
    content = whole.read_bytes()
    rows = pd.read_csv(whole, dtype={"score": str}).to_numpy()
    record = json.loads(whole.with_suffix(".json").read_text())
    out = tmp_path / "scores.csv"
    out.with_suffix(".json").write_text(json.dumps(record))
    files_path(out).write_bytes(files_path(whole).read_bytes())
    start = content.index(b"sub/") - 40  # the odd names of sub-folders, and some plain ones
    for length in [*range(60), *range(start, len(content))]:
        out.write_bytes(content[:length])
        with open_sheet(out, record) as sheet:
            held = len(sheet.scores)
            assert list(sheet.scores) == list(rows[:held, 0])
            for name, score in rows[held:]:
                sheet.add(name, np.float32(score), sheet.contents[name])
        assert out.read_bytes() == content, length


@pytest.mark.medium
def test_cut_off_and_scored_again_the_scores_are_the_same_to_the_last_digit(
    album, whole, student_folder, tmp_path
):
    content = whole.read_bytes()
    out = tmp_path / "scores.csv"
    out.with_suffix(".json").write_bytes(whole.with_suffix(".json").read_bytes())
    files_path(out).write_bytes(files_path(whole).read_bytes())
    for length in (0, 13, len(content) // 2, len(content) - 3):
        out.write_bytes(content[:length])
        with pytest.warns(UserWarning, match=r"5 photographs could not be scored(.|\n)*p0300"):
            table = lab.score_folder(album, student_folder, out, batch_size=2, device="cpu")
        assert _contents(out) == _contents(whole)
    assert table.attrs["new"] == 1
    assert list(table["name"]) == list(pd.read_csv(whole)["name"])
    assert np.array_equal(table["score"], pd.read_csv(whole)["score"])


def test_scores_of_another_model_or_folder_are_refused(
    album, whole, student_folder, tmp_path, capsys
):
    before = whole.read_bytes()
    small_student(tmp_path / "other", seed=1)
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    arguments = ["--out", str(whole), "--device", "cpu"]
    assert main(["score", str(album), "--model", str(tmp_path / "other"), *arguments]) == 2
    assert "scores of another model" in capsys.readouterr().err
    # The same weights at another size are another model too.
    same = tmp_path / "same"
    same.mkdir()
    (same / "checkpoints").symlink_to(student_folder / "checkpoints")
    (same / "config.json").write_text(json.dumps({**config, "image_size": 96}))
    assert main(["score", str(album), "--model", str(same), *arguments]) == 2
    assert main(["score", str(album / "sub"), "--model", str(student_folder), *arguments]) == 2
    assert "folder: " in capsys.readouterr().err
    assert whole.read_bytes() == before
    photographs(tmp_path / "few", 3)
    out = tmp_path / "mine.csv"
    out.write_text("name,score\n")
    with pytest.raises(lab.LabError, match=r"no mine\.json says which model"):
        lab.score_folder(tmp_path / "few", student_folder, out)
    with pytest.raises(lab.LabError, match=r"\.csv file"):
        lab.score_folder(tmp_path / "few", student_folder, tmp_path / "scores.txt")


def test_what_a_student_does_to_pixels_is_part_of_what_it_is(album, student_folder, tmp_path):
    out = tmp_path / "scores.csv"
    student = lab.load_model(student_folder)
    lab.score_folder([album / "p000.png"], student, out, device="cpu")
    student.pixels = ((0.5,) * 3, (0.2,) * 3)
    with pytest.raises(lab.LabError, match="scores of another model"):
        lab.score_folder([album / "p000.png"], student, out, device="cpu")


@pytest.mark.medium
@pytest.mark.skipif(not int8_kernels(), reason="torch has no such kernels here")
def test_a_file_keeps_to_one_precision(tmp_path, capsys):
    root = tmp_path / "some"
    photographs(root, 4, size=40)
    out = tmp_path / "scores.csv"
    command = ["score", str(root), "--out", str(out), "--device", "cpu"]
    assert main([*command, "--precision", "int8"]) == 0
    assert json.loads(out.with_suffix(".json").read_text())["precision"] == "int8"
    rough = pd.read_csv(out)["score"]
    assert main(command) != 0
    assert "precision" in capsys.readouterr().err
    exact = lab.score_folder(root, device="cpu")["score"]
    assert 0 < np.abs(rough - exact).max() < 0.2
    parts = lab.scoring.score_parts(root, tmp_path / "parts", device="cpu", precision="int8")
    assert parts["precision"] == "int8"
    assert pd.read_parquet(tmp_path / "parts")["score"].to_numpy() == pytest.approx(rough)


def test_a_sheet_is_written_by_one_process_at_a_time(whole):
    record = json.loads(whole.with_suffix(".json").read_text())
    with (
        open_sheet(whole, record),
        pytest.raises(lab.LabError, match=r"scores\.csv is in use by process"),
        open_sheet(whole, record),
    ):
        pass


def test_new_and_mended_photographs_are_added(student_folder, tmp_path):
    root, out = tmp_path / "few", tmp_path / "few.csv"
    photographs(root, 4)
    mended = (root / "p001.png").read_bytes()
    (root / "p001.png").write_bytes(mended[:50])
    with pytest.warns(UserWarning, match=r"p001\.png"):
        first = lab.score_folder(root, student_folder, out)
    assert first.attrs["new"] == len(first) == 3
    assert list(first.attrs["unreadable"]) == ["p001.png"]
    (root / "p001.png").write_bytes(mended)
    photographs(root / "a", 2, seed=3)
    second = lab.score_folder(root, student_folder, out)
    assert second.attrs["new"] == 3
    assert list(second["name"]) == sorted(second["name"])
    assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == [
        "p000.png", "p002.png", "p003.png", "a/p000.png", "a/p001.png", "p001.png",
    ]  # fmt: skip
    assert (tmp_path / "few-unreadable.csv").read_text() == "name,reason\n"
    again = lab.score_folder(root, student_folder, out)
    assert again.attrs["new"] == 0
    pd.testing.assert_frame_equal(again, second)


@pytest.mark.parametrize("form", ["few.csv", "few"])
def test_photographs_that_changed_since_they_were_scored_are_refused(
    student_folder, tmp_path, form
):
    root, out = tmp_path / "photos", tmp_path / form
    photographs(root, 4)
    score = lab.score_folder if out.suffix else lab.scoring.score_parts
    first = score(root, out=out, model=student_folder, device="cpu")
    before = {path: path.read_bytes() for path in tmp_path.glob("few*/*")} | {
        path: path.read_bytes() for path in tmp_path.glob("few*") if path.is_file()
    }
    pixels = np.array(Image.open(root / "p002.png"))
    kept = (root / "p002.png").read_bytes()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(root / "p002.png")
    with pytest.raises(lab.LabError, match=r"1 photographs have changed since(.|\n)*p002\.png"):
        score(root, out=out, model=student_folder, device="cpu")
    assert {path: path.read_bytes() for path in before} == before
    (root / "p002.png").write_bytes(kept)  # the same again, with another time stamp
    again = score(root, out=out, model=student_folder, device="cpu")
    assert (again.attrs if out.suffix else again)["new"] == 0
    assert len(first) == len(again)


def test_a_power_cut_that_lost_the_files_rows_costs_their_scores_alone(student_folder, tmp_path):
    root, out = tmp_path / "photos", tmp_path / "few.csv"
    photographs(root, 4)
    lab.score_folder(root, student_folder, out, device="cpu")
    whole, rows = out.read_bytes(), files_path(out).read_bytes().splitlines(keepends=True)
    files_path(out).write_bytes(b"".join(rows[:3]))
    again = lab.score_folder(root, student_folder, out, device="cpu")
    assert again.attrs["new"] == 2
    assert out.read_bytes() == whole
    files_path(out).unlink()
    with pytest.raises(lab.LabError, match=r"few-files\.csv is missing"):
        lab.score_folder(root, student_folder, out, device="cpu")


def test_scores_beyond_the_scale_are_kept_and_nan_is_a_reason(tmp_path):
    import torch

    photographs(tmp_path / "few", 5)
    student = small_student(tmp_path / "model")
    with torch.no_grad():
        student.regressor.fc3.bias += 3
    table = lab.score_folder(tmp_path / "few", student)
    assert (table["score"] > 1).all()
    assert table["score"].nunique() == 5
    with torch.no_grad():
        student.regressor.fc3.bias.fill_(float("nan"))
    with pytest.warns(UserWarning, match="score is nan"):
        assert len(lab.score_folder(tmp_path / "few", student)) == 0


def test_the_terminal_shows_scores_and_what_could_not_be_read(student_folder, tmp_path, capsys):
    photographs(tmp_path / "few", 2)
    names = [str(tmp_path / "few" / name) for name in ("p001.png", "p000.png", "no.png")]
    assert main(["score", *names, "--model", str(student_folder), "--device", "cpu"]) == 1
    said = capsys.readouterr()
    assert [line.split("\t")[1] for line in said.out.splitlines()] == names[:2]
    assert "no.png: no such file" in said.err
    assert main(["score", *names[:2], "--model", str(student_folder), "--device", "cpu"]) == 0
    assert main(["score", str(tmp_path / "few"), "--batch-size", "0"]) == 2


def test_scores_are_said_to_be_on_the_scale_of_what_was_trained_on(tmp_path, capsys):
    photographs(tmp_path / "few", 2)
    small_student(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    known = json.loads(path.read_text()) | {"dataset": "koniq", "mos_range": [1, 5]}
    path.write_text(json.dumps(known))
    out = tmp_path / "scores.csv"
    words = ["score", str(tmp_path / "few"), "--model", str(tmp_path / "model"), "--out", str(out)]
    assert main([*words, "--device", "cpu"]) == 0
    said = "on the scale of koniq: 0 is its worst, 1 its best (MOS from 1 to 5 there)"
    assert said in capsys.readouterr().err
    assert json.loads(out.with_suffix(".json").read_text())["mos_range"] == [1, 5]


def test_one_image_or_several_of_any_kind_by_the_shipped_student(tmp_path):
    photographs(tmp_path, 2)
    path = tmp_path / "p000.png"
    picture = Image.open(tmp_path / "p001.png")
    expected = lab.load_model("embedded").score([path, picture])
    assert lab.score(path) == pytest.approx(expected[0], abs=1e-6)
    assert isinstance(lab.score(str(path)), float)
    assert np.allclose(lab.score([path, picture]), expected, atol=1e-6)
    assert lab.score((path,)).shape == (1,)
    with pytest.raises(lab.LabError, match=r"gone\.png"):
        lab.score(tmp_path / "gone.png")
