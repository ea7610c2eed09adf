"""What was looked at is remembered, as long as it is the same file, and however the look ended."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.files import file_hash, stamp
from dpiqa_lab.core.paths import cache_dir
from dpiqa_lab.datasets import image_index
from dpiqa_lab.datasets.image_index import build_image_index
from tests.conftest import REPOSITORY


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Six pictures of equal size in bytes and of equal time."""
    monkeypatch.setenv("DPIQA_HOME", str(tmp_path / "home"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(6):
        path = folder / f"{i}.bmp"
        Image.fromarray(np.full((4, 4, 3), 40 * i, np.uint8)).save(path)
        os.utime(path, ns=(10**18, 10**18))
    return folder


@pytest.fixture
def looked(monkeypatch):
    """Names of the files that are looked at, as they are."""
    names = []
    look = image_index._read
    monkeypatch.setattr(image_index, "_read", lambda path: names.append(path.name) or look(path))
    return names


def _hashes(root):
    paths = sorted(root.iterdir())
    table = build_image_index(paths, root)
    return dict(zip([path.name for path in paths], table["hash"], strict=True))


def _true(root):
    return {path.name: file_hash(path) for path in root.iterdir()}


def _swap(root):
    (root / "0.bmp").rename(root / "x")
    (root / "1.bmp").rename(root / "0.bmp")
    (root / "x").rename(root / "1.bmp")


def _rewrite(root):
    (root / "0.bmp").write_bytes((root / "1.bmp").read_bytes())


def _replace(root):
    shutil.copyfile(root / "1.bmp", root / "new")
    (root / "new").replace(root / "0.bmp")


@pytest.mark.parametrize("change", [_swap, _rewrite, _replace])
def test_a_change_that_leaves_size_and_time_is_seen(root, looked, change):
    assert _hashes(root) == _true(root)
    assert _hashes(root) == _true(root)
    assert len(looked) == 6  # the second time none
    change(root)
    for path in root.iterdir():
        os.utime(path, ns=(10**18, 10**18))
    assert _hashes(root) == _true(root)
    assert {"0.bmp"} <= set(looked[6:])


def test_where_no_file_has_a_number_all_are_looked_at_again(root, looked, monkeypatch):
    """As on some network drives: nothing there would tell two files apart."""
    whole = os.stat

    def unnumbered(path, *rest, **options):
        status = list(whole(path, *rest, **options))
        status[1] = 0
        return os.stat_result(status)

    monkeypatch.setattr("dpiqa_lab.core.files.os.stat", unnumbered)
    assert stamp(root / "0.bmp") is None
    for times in (1, 2):
        assert _hashes(root) == _true(root)
        assert len(looked) == 6 * times


def test_unstable_numbers_cost_a_look_alone(root, looked, monkeypatch):
    assert _hashes(root) == _true(root)
    found = image_index.stamp
    monkeypatch.setattr(image_index, "stamp", lambda path: [*found(path)[:-1], 7])
    assert _hashes(root) == _true(root)
    assert len(looked) == 12


def test_what_older_versions_remembered_is_looked_at_again(root, looked):
    _hashes(root)
    (memory,) = (cache_dir() / "inventory").iterdir()
    known = json.loads(memory.read_text())
    old = {name: {**row, "stamp": row["stamp"][:2], "hash": "0"} for name, row in known.items()}
    memory.write_text(json.dumps(old))
    assert _hashes(root) == _true(root)
    assert len(looked) == 12


def test_a_missing_file_is_looked_for_again(root):
    build_image_index([root / "a.bmp"], root)
    (root / "0.bmp").rename(root / "a.bmp")
    assert build_image_index([root / "a.bmp"], root)["error"].tolist() == [""]


@pytest.mark.parametrize("error", [KeyboardInterrupt, LabError("the disk is full")])
def test_what_was_looked_at_before_an_interruption_is_remembered(root, looked, monkeypatch, error):
    look = image_index._read

    def interrupted(path):
        if path.name == "3.bmp":
            raise error
        return look(path)

    with monkeypatch.context() as patch:
        patch.setattr(image_index, "_read", interrupted)
        with pytest.raises((KeyboardInterrupt, LabError)):
            _hashes(root)
    looked.clear()
    assert _hashes(root) == _true(root)
    assert not {"0.bmp", "1.bmp", "2.bmp"} & set(looked)
    assert "3.bmp" in looked


KILLED = """
import sys, time
from pathlib import Path
from dpiqa_lab.datasets import image_index
root, step, how = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
image_index._INTERVAL = step
look = image_index._read
def slow(path):
    if path.name == "4.bmp":
        print("waiting", flush=True)
        time.sleep(600 if how == "killed" else 4)
    return look(path)
image_index._read = slow
image_index.build_image_index(sorted(root.iterdir()), root)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.medium
@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_a_killed_look_goes_on_where_it_was(root, looked, how):
    step = "0" if how == "killed" else "1000"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(root), step, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout.readline() == b"waiting\n"
    time.sleep(0.5)  # for the others to be looked at and written
    process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert how == "killed" or b"KeyboardInterrupt" in errors
    assert _hashes(root) == _true(root)
    assert not {"0.bmp", "1.bmp", "2.bmp", "3.bmp"} & set(looked)
    assert "4.bmp" in looked


def test_a_stamp_changes_with_whatever_the_content_may_have_changed_by(root):
    a, b = root / "0.bmp", root / "1.bmp"
    first = stamp(a)
    assert stamp(a) == first != stamp(b)
    assert json.loads(json.dumps(first)) == first
    _swap(root)
    assert first not in (stamp(a), stamp(b))
    assert stamp(root / "gone.bmp") is None
