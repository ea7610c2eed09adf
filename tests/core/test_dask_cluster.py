"""Work spread over Dask workers, one of which is killed; Parquet parts here and there."""

import json
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import dpiqa_lab as lab
from dpiqa_lab.__main__ import main
from dpiqa_lab.automation.sweep import run_sweep
from dpiqa_lab.core.executors import run_items
from dpiqa_lab.core.paths import runs_dir
from dpiqa_lab.scoring.parquet_scores import MANIFEST
from tests.conftest import photographs, small_student
from tests.support.notebooks import small_notebook
from tests.support.stub_scorer import StubScorer

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """2,000 pictures of 8x8 pixels, every one of another mean, and two files that are none."""
    root = tmp_path_factory.mktemp("many")
    for i in range(2000):
        pixels = np.full((8, 8, 3), i % 250, np.uint8)
        pixels[0, 0] = i // 250
        Image.fromarray(pixels).save(root / f"{i:04d}.png")
    (root / "0999.png").write_bytes(b"")
    (root / "1500.png").write_text("<!doctype html>")
    return root


def _shown(log):
    """How often each photograph was shown to the model, and by how many processes."""
    logs = [path for path in log.iterdir() if path.name != "killed"]
    lines = [line.split() for path in logs for line in path.read_text().splitlines()]
    assert {threads for _, threads in lines} == {str(max(1, (os.cpu_count() or 1) // 2))}
    return Counter(name for name, _ in lines), len(logs)


def test_a_killed_worker_loses_nothing_and_repeats_its_part_alone(many, tmp_path):
    log, out = tmp_path / "log", tmp_path / "scores"
    log.mkdir()
    stub = StubScorer(log, deadly="1234.png")
    manifest = lab.scoring.score_parts(
        many, out, stub, device="cpu", cluster="local:2", part_size=50
    )
    assert (log / "killed").exists()
    assert len(list(out.glob("part-*"))) == len(manifest["parts"]) == 40
    shown, workers = _shown(log)
    assert workers in (2, 3)  # the one that takes a dead one's place may come too late
    assert len(shown) == 2000
    assert set(shown.values()) == {1, 2}
    repeated = {int(name[:4]) for name, times in shown.items() if times == 2}
    assert 1234 in repeated
    assert repeated <= set(range(1200, 1250))  # of its own part alone
    table = pd.read_parquet(out)
    assert list(table["name"]) == [f"{i:04d}.png" for i in range(2000)]
    assert list(table["name"][table["score"].isna()]) == ["0999.png", "1500.png"]
    assert table["reason"].notna().tolist() == table["score"].isna().tolist()
    assert manifest["photographs"] == manifest["new"] == 2000
    assert manifest["unreadable"] == 2
    # The same scores as one process gives.
    lab.scoring.score_parts(many, tmp_path / "one", StubScorer(), device="cpu", part_size=50)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "one"), table)


def test_finished_parts_are_kept_and_damaged_ones_computed_again(many, tmp_path):
    log, out = tmp_path / "log", tmp_path / "scores"
    log.mkdir()
    first = lab.scoring.score_parts(many, out, StubScorer(), device="cpu", part_size=300)
    files = sorted(out.glob("part-*"))
    before = {path: path.read_bytes() for path in files}
    assert len(files) == 7
    files[2].unlink()  # as if it had been interrupted there
    files[6].write_bytes(before[files[6]][:-20])
    with pytest.warns(UserWarning, match="damaged part"):
        again = lab.scoring.score_parts(many, out, StubScorer(log), device="cpu", part_size=300)
    names = {line.split()[0] for path in log.iterdir() for line in path.read_text().splitlines()}
    assert names == {f"{i:04d}.png" for i in [*range(600, 900), *range(1800, 2000)]}
    assert {path: path.read_bytes() for path in files} == before
    assert again["new"] == 500
    assert again["parts"] == first["parts"]
    assert json.loads((out / MANIFEST).read_text())["parts"] == first["parts"]


def test_new_photographs_join_and_other_models_are_refused(student_folder, tmp_path, capsys):
    root, out = tmp_path / "few", tmp_path / "scores"
    photographs(root / "b", 5)
    words = ["score", str(root), "--model", str(student_folder), "--out", str(out)]
    words += ["--device", "cpu", "--batch-size", "2", "--part-size", "4"]
    assert main(words) == 0
    assert "5 photographs scored, 5 of them now" in capsys.readouterr().err
    photographs(root / "a", 3)
    (root / "a" / "p001.png").write_bytes(b"no picture")
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "7 photographs scored, 3 of them now" in said
    assert "a/p001.png: " in said
    table = pd.read_parquet(out)
    assert table["name"].nunique() == len(table) == 8
    readable = table[table["reason"].isna()]
    expected = lab.load_model(student_folder).score(
        [root / name for name in readable["name"]], device="cpu"
    )
    assert np.allclose(readable["score"], expected, atol=1e-5)
    small_student(tmp_path / "other", seed=1)
    words[3] = str(tmp_path / "other")
    assert main(words) == 2
    assert "another model" in capsys.readouterr().err
    (out / MANIFEST).unlink()
    assert main(words) == 2
    assert "no _manifest.json says which model" in capsys.readouterr().err
    assert main([*words[:4], "--cluster", "local:2", "--out", "scores.csv"]) == 2
    assert "give a folder" in capsys.readouterr().err


def test_a_student_by_name_scores_on_a_cluster_as_here(student_folder, tmp_path):
    photographs(tmp_path / "few", 12)
    for place, cluster in (("there", "local:2"), ("here", None)):
        lab.scoring.score_parts(
            tmp_path / "few", tmp_path / place, student_folder, 2, "cpu", cluster, part_size=4
        )
    there, here = (pd.read_parquet(tmp_path / place) for place in ("there", "here"))
    assert list(there["name"]) == list(here["name"])
    assert np.allclose(there["score"], here["score"], atol=1e-6)


def test_errors_come_back_with_their_item():
    found = dict(run_items(_half, range(4)))
    assert [found[i] for i in (0, 2)] == [0, 1]
    assert isinstance(found[1], ValueError)
    there = dict(run_items(_half, range(4), "local:1"))
    assert {i: str(result) for i, result in there.items()} == {
        i: str(result) for i, result in found.items()
    }


def _half(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ("slurm", "unknown cluster 'slurm': expected local, local:2"),
        ("local:none", "needs a number of workers"),
        ("none.json", r"no scheduler file none\.json"),
        ("tcp://127.0.0.1:1", r"cluster tcp://127\.0\.0\.1:1: "),
    ],
)
def test_a_cluster_that_is_none_is_named(cluster, message, monkeypatch):
    monkeypatch.setattr("dpiqa_lab.core.dask_cluster.PATIENCE", 1)
    with pytest.raises(lab.LabError, match=message):
        list(run_items(_half, [0], cluster))


PARAMETERS = "# Parameters:\nx = 1  # a number\nrun_name = None  # a folder"
WORK = """
import json, os, pathlib, signal, time
home = pathlib.Path(os.environ["DPIQA_HOME"])
with open(home / "log.txt", "a") as log:
    log.write(f"{x} {os.environ['OMP_NUM_THREADS']} {os.getpid()}\\n")
if x == 3 and not (home / "killed").exists():
    (home / "killed").touch()
    os.kill(os.getppid(), signal.SIGKILL)  # the worker
    time.sleep(600)
folder = home / "runs" / run_name
folder.mkdir(parents=True)
(folder / "summary.json").write_text(json.dumps({"metrics": {"test": {"srcc": x / 10}}}))
"""


@pytest.mark.slow
def test_a_sweep_of_eight_ends_complete_where_a_worker_is_killed(tmp_path, monkeypatch):
    monkeypatch.setenv("DPIQA_HOME", str(tmp_path))
    path = small_notebook(tmp_path / "small.ipynb", PARAMETERS, WORK)
    grid = {"x": list(range(8))}
    table = run_sweep(path, grid, name="small", cluster="local:2")
    assert table["status"].tolist() == ["completed"] * 8
    assert table["srcc"].tolist() == [x / 10 for x in range(8)]
    pd.testing.assert_frame_equal(
        pd.read_csv(runs_dir() / "small" / "sweep.csv")[["x", "srcc"]], table[["x", "srcc"]]
    )
    lines = [line.split() for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert sorted(int(x) for x, *_ in lines) == [0, 1, 2, 3, 3, 4, 5, 6, 7]
    assert {threads for _, threads, _ in lines} == {str(max(1, (os.cpu_count() or 1) // 2))}
    # The kernel of the killed worker is gone too.
    first = next(int(process) for x, _, process in lines if x == "3")
    deadline = time.monotonic() + 30
    while Path(f"/proc/{first}/cmdline").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{first}").exists() or not Path(f"/proc/{first}/cmdline").read_bytes()
    again = run_sweep(path, grid, name="small", cluster="local:2")
    assert again["seconds"].tolist() == table["seconds"].tolist()
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 9
