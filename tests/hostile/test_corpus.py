"""Hostile input of every kind: what the lab says, and that nothing else is touched.

Each case goes in by Python, where a LabError names it in less than a screen, and by the command
line, where the exit code is not 0. Files beside the lab's own folders are the same afterwards.
"""

import contextlib
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dpiqa_lab as lab
from dpiqa_lab.__main__ import main
from dpiqa_lab.core.paths import home
from tests.hostile import pictures, tables, weights
from tests.hostile.parameters import ANYWHERE, TRAINING

pytestmark = pytest.mark.medium

SCREEN = 25  # lines


@pytest.fixture(autouse=True)
def no_costs(monkeypatch):
    """``check`` leaves out what a training needs: it builds a network each time."""
    monkeypatch.setattr("dpiqa_lab.automation.resource_estimate.sizes", lambda config, n: [])


def told(text: str, says: str) -> None:
    """The message says it, in less than a screen."""
    assert re.search(says, text), text
    assert len(text.splitlines()) < SCREEN, text
    assert len(text) < 5000
    assert "Traceback" not in text
    assert not set(text) & {"\x1b", "\0", "\u202e"}


def _content(root: Path) -> dict:
    """Every file below ``root`` with its bytes, links and pipes by what they are."""
    found = {}
    for place, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(place, name)
            if path.is_symlink():
                found[path] = path.readlink()
            else:
                found[path] = path.read_bytes() if path.is_file() else path.stat().st_mode
    return found


@contextlib.contextmanager
def untouched(root: Path):
    """Nothing under ``root`` changes; of the lab's home, only what is in its own folders."""
    before = _content(root)
    yield
    assert _content(root) == before
    assert {path.name for path in home().iterdir()} <= {"cache", "runs", "data"}


def ids(cases):
    return [str(case[0])[:40] for case in cases]


@pytest.mark.parametrize(("name", "content", "says"), pictures.BROKEN, ids=ids(pictures.BROKEN))
def test_a_broken_photograph_is_named(tmp_path, capsys, name, content, says):
    root = tmp_path / "photos"
    lines = tables.make_root(root)
    pictures.write(root / name, content)
    tables.write(root, lambda root, lines: "\n".join([*lines, f"{name},50"]), lines)
    named = rf"{re.escape(name)}(.|\n)*{says}"
    with untouched(tmp_path):
        with pytest.raises(lab.LabError) as caught:
            lab.read_image(root / name)
        told(str(caught.value), named)
        with pytest.raises(lab.LabError) as caught:
            lab.load_dataset("folder", root, mos_range=(0, 100))
        told(str(caught.value), rf"1 of 13 photographs(.|\n)*{named}")
        assert main(["check", "folder", "--root", str(root), "-p", "mos_range", "0,100"]) == 1
        told(capsys.readouterr().out, re.escape(name))
        kept = lab.load_dataset("folder", root, mos_range=(0, 100), on_bad_image="skip")
        assert list(kept.table["name"]) == tables.NAMES
        assert list(kept.manifest.skipped["name"]) == [name]


@pytest.mark.parametrize(
    ("name", "content", "size", "colour", "off"), pictures.ODD, ids=ids(pictures.ODD)
)
def test_an_odd_photograph_arrives_right(tmp_path, capsys, name, content, size, colour, off):
    root = tmp_path / "photos"
    lines = tables.make_root(root)
    (root / name).write_bytes(content)
    tables.write(root, lambda root, lines: "\n".join([*lines, f"{name},50"]), lines)
    with untouched(tmp_path):
        pixels = lab.read_image(root / name)
        assert pixels.shape == (*size, 3)
        assert np.abs(pixels.astype(int) - colour).max() <= off
        dataset = lab.load_dataset("folder", root, mos_range=(0, 100), image_size=8)
        image = dataset[12]["image"].permute(1, 2, 0).numpy() * 255
        assert np.abs(image - colour).max() <= off + 0.5
        assert main(["check", "folder", "--root", str(root), "-p", "mos_range", "0,100"]) == 0
        told(capsys.readouterr().out, "13 photographs take")


@pytest.mark.parametrize(
    ("what", "content", "says", "options"), tables.REFUSED, ids=ids(tables.REFUSED)
)
def test_a_bad_table_is_named_by_row(tmp_path, capsys, what, content, says, options):
    root = tmp_path / "photos"
    tables.write(root, content, tables.make_root(root))
    options = {"mos_range": (0, 100), "labels": "scores.csv", **options}
    given = [part for k, v in options.items() for part in ("-p", k, str(v))]
    with untouched(tmp_path):
        with pytest.raises(lab.LabError) as caught:
            lab.load_dataset("folder", root, **options)
        told(str(caught.value), says)
        assert main(["check", "folder", "--root", str(root), *given]) in (1, 2)
        said = capsys.readouterr()
        told(said.out + said.err, r"error")


@pytest.mark.parametrize(("what", "content", "name"), tables.ACCEPTED, ids=ids(tables.ACCEPTED))
def test_an_odd_table_is_read_right(tmp_path, capsys, what, content, name):
    root = tmp_path / "photos"
    tables.write(root, content, tables.make_root(root))
    with untouched(tmp_path):
        table = lab.load_dataset("folder", root, mos_range=(0, 100)).table
        assert list(table["name"]) == [*tables.NAMES[:2], name, *tables.NAMES[3:]]
        assert table["mos_raw"].iloc[3] == pytest.approx(75)
        assert main(["check", "folder", "--root", str(root), "-p", "mos_range", "0,100"]) == 0
        told(capsys.readouterr().out, "fine")


@pytest.mark.parametrize(("what", "change", "says"), weights.MODELS, ids=ids(weights.MODELS))
def test_a_damaged_model_is_named(tmp_path, capsys, student_folder, what, change, says):
    folder = weights.copied(student_folder, tmp_path / "model")
    change(folder)
    root = tmp_path / "photos"
    tables.make_root(root)
    with untouched(tmp_path):
        with pytest.raises(lab.LabError) as caught:
            lab.load_model(folder)
        told(str(caught.value), says)
        assert main(["score", str(root), "--model", str(folder)]) == 2
        told(capsys.readouterr().err, says)


def test_broken_photographs_have_a_reason_each_and_the_others_a_score(
    student_folder, tmp_path, capsys
):
    root, out = tmp_path / "photos", tmp_path / "out" / "scores.csv"
    tables.make_root(root)
    for name, content, _ in pictures.BROKEN:
        pictures.write(root / name, content)
    with untouched(root):
        given = ["score", str(root), "--model", str(student_folder), "--out", str(out)]
        assert main([*given, "--device", "cpu"]) == 1
        told(capsys.readouterr().err, "12 photographs scored")
    reasons = pd.read_csv(out.with_name("scores-unreadable.csv")).set_index("name")["reason"]
    # A folder whose name ends like a photograph's is looked through.
    broken = {name: says for name, _, says in pictures.BROKEN if name != "folder.jpg"}
    assert set(reasons.index) == set(broken)
    for name, says in broken.items():
        assert re.search(says, reasons[name]), name
    assert list(pd.read_csv(out)["name"]) == tables.NAMES
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "out"}


@pytest.mark.parametrize(("what", "make", "says"), weights.PICKLES, ids=ids(weights.PICKLES))
def test_no_pickle_runs(tmp_path, capsys, what, make, says):
    trace = tmp_path / "it-ran"
    path = tmp_path / "model.pth"
    make(path, trace)
    with untouched(tmp_path):
        for load in (
            lab.load_official_student,
            lab.load_official_teacher,
            lambda path: lab.models.load_re_iqa(quality=path),
            lambda path: weights.read_tensor(path),
        ):
            with pytest.raises(lab.LabError) as caught:
                load(path)
            told(str(caught.value), rf"model\.pth: (.|\n)*{says}")
        assert main(["convert", str(path), str(tmp_path / "out")]) == 2
        told(capsys.readouterr().err, rf"model\.pth: (.|\n)*{says}")
        assert not trace.exists()
    if what in weights.ARMED:
        weights.load_carelessly(path)
        assert trace.exists()  # so the file was no dud


@pytest.mark.parametrize(("name", "value", "says"), ANYWHERE, ids=ids(ANYWHERE))
def test_a_wrong_parameter_is_named_by_every_notebook(name, value, says):
    from tests.support.configs import CONFIGS

    tried = 0
    for config in CONFIGS.values():
        if name in config.__pydantic_fields__ or says.startswith("unknown parameter"):
            with pytest.raises(lab.LabError) as caught:
                config.from_parameters({name: value})
            told(str(caught.value), says)
            tried += 1
    assert tried >= 1


@pytest.mark.parametrize(("name", "value", "says"), TRAINING, ids=ids(TRAINING))
def test_a_wrong_parameter_ends_a_command(small_folder, tmp_path, capsys, name, value, says):
    given = {"mos_range": "0,100", "backbone": "tiny", "image_size": 64, name: value}
    options = [part for k, v in given.items() for part in ("-p", k, str(v))]
    root = [] if name == "data_root" else ["--root", str(small_folder)]
    with untouched(tmp_path):
        assert main(["protocol", "folder", *root, *options]) == 2
        told(capsys.readouterr().err, says)


def test_the_corpus_is_large(capsys):
    counts = {
        "broken photographs": len(pictures.BROKEN),
        "odd photographs": len(pictures.ODD),
        "refused tables": len(tables.REFUSED),
        "odd tables": len(tables.ACCEPTED),
        "damaged models": len(weights.MODELS),
        "pickles": len(weights.PICKLES),
        "parameters": len(ANYWHERE) + len(TRAINING),
    }
    with capsys.disabled():
        listed = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        print(f"\nhostile inputs tried: {sum(counts.values())} ({listed})")
    assert sum(counts.values()) >= 60
