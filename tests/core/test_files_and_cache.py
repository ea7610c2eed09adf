import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import resource

import numpy as np
import pytest
import torch

from dpiqa_lab.automation.sweep import run_sweep
from dpiqa_lab.core import files
from dpiqa_lab.core.cache import RowCache, cache_table, clear_cache
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.files import (
    RememberedHash,
    atomic_path,
    check_disk_space,
    read_json,
    tensors_hash,
    write_json,
)
from dpiqa_lab.core.locks import folder_lock
from dpiqa_lab.core.runs import Run, open_run
from dpiqa_lab.datasets.prior_views import make_views
from dpiqa_lab.scoring.score import score_folder
from dpiqa_lab.training.checkpoints import save_weights
from tests.conftest import REPOSITORY, photographs


def test_atomic_path_keeps_the_old_file_when_the_writer_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_writes_nan_as_null(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [np.float64(1.5), np.int64(2)]})
    assert read_json(tmp_path / "a.json") == {"x": None, "y": [1.5, 2]}


def test_tensors_hash_sees_name_type_shape_and_value():
    base = {"a": torch.arange(4.0)}
    others = [
        {"b": torch.arange(4.0)},
        {"a": torch.arange(4.0).double()},
        {"a": torch.arange(4.0).view(2, 2)},
        {"a": torch.tensor([0.0, 1, 2, 4])},
    ]
    hashes = {tensors_hash(x) for x in [base, *others]}
    assert len(hashes) == 5
    assert tensors_hash({"a": torch.arange(4.0)}) in hashes


def _swap(w):
    with torch.no_grad():
        w[0], w[2] = w[2].clone(), w[0].clone()  # the sums of a block stay the same


def _one_weight(w):
    with torch.no_grad():
        w[-1] += 1e-3


def _by_data(w):
    w.data += 1e-3  # as LoRA is merged; torch counts no write


def _by_numpy(w):
    w.detach().numpy()[5] = 7.0


def _replaced(w):
    w.data = w.data.flip(0)


@pytest.mark.parametrize("size", [10, 2048 * 3 + 10])
@pytest.mark.parametrize("change", [_swap, _one_weight, _by_data, _by_numpy, _replaced])
def test_a_remembered_hash_sees_every_change(size, change):
    weight = torch.nn.Parameter(torch.randn(size, generator=torch.Generator().manual_seed(0)))
    remembered = RememberedHash()
    before = remembered({"w": weight})
    assert before == tensors_hash({"w": weight})
    change(weight)
    assert remembered({"w": weight}) == tensors_hash({"w": weight}) != before


def test_a_remembered_hash_is_computed_once(monkeypatch):
    computed = []
    monkeypatch.setattr(files, "tensors_hash", lambda x: computed.append(1) or tensors_hash(x))
    whole = torch.randn(3 * 2048 + 1)
    state = {"w": torch.nn.Parameter(whole.clone()), "part": whole[1:], "n": torch.tensor(3)}
    remembered = RememberedHash()
    assert len({remembered(state) for _ in range(3)}) == 1
    assert remembered({**state, "n": torch.tensor(3)}) == tensors_hash(state)
    assert len(computed) == 1
    assert remembered({"other": state["w"]}) == tensors_hash({"other": state["w"]})
    assert remembered({"other": state["w"].half()}) == tensors_hash({"other": state["w"].half()})


class Counter:
    """Rows 10 * position, and which positions were asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, positions):
        self.asked += positions
        return {"row": torch.tensor([[10.0 * p] for p in positions])}


def test_rows_are_computed_once_and_come_in_order(tmp_path):
    first, second = Counter(), Counter()
    cache = RowCache("test", {"k": 1}, tmp_path)
    rows = cache.rows(["a", "b", "a", "c"], first, batch_size=2)["row"]
    assert rows.flatten().tolist() == [0, 10, 0, 30]
    assert first.asked == [0, 1, 3]
    rows = RowCache("test", {"k": 1}, tmp_path).rows(["c", "d", "b"], second)["row"]
    assert rows.flatten().tolist() == [30, 10, 10]
    assert second.asked == [1]
    for ids, expected in (("abcd", [0, 10, 30, 10]), ("dcba", [10, 30, 10, 0]), ("c", [30])):
        rows = cache.rows(list(ids), second)["row"]  # from both files, in any order
        assert rows.flatten().tolist() == expected


def test_another_key_is_another_entry(tmp_path):
    counter = Counter()
    for key in ({"k": 1}, {"k": 2}, {"k": 1, "extra": None}):
        RowCache("test", key, tmp_path).rows(["a"], counter)
    assert counter.asked == [0, 0, 0]
    assert len(cache_table(tmp_path)) == 3
    assert clear_cache("test", tmp_path) == 3
    assert cache_table(tmp_path) == []


@pytest.mark.parametrize("keep", [0, 1, 7, 40, -1])
def test_a_damaged_part_is_found_and_computed_again(tmp_path, keep):
    cache = RowCache("test", {}, tmp_path)
    cache.rows(["a", "b"], Counter())
    (part,) = cache.folder.glob("*.safetensors")
    part.write_bytes(part.read_bytes()[:keep])
    again = Counter()
    with pytest.warns(UserWarning, match=r"damaged cache file .*computed again"):
        assert cache.rows(["a", "b"], again)["row"].flatten().tolist() == [0, 10]
    assert again.asked == [0, 1]


def test_a_flipped_bit_is_found(tmp_path):
    cache = RowCache("test", {}, tmp_path)
    cache.rows(["a"], Counter())
    (part,) = cache.folder.glob("*.safetensors")
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    with pytest.warns(UserWarning, match="checksum"):
        assert cache.rows(["a"], Counter())["row"].item() == 0


def test_an_interruption_keeps_what_is_done(tmp_path):
    def stops(positions):
        if 4 in positions:
            raise KeyboardInterrupt
        return {"row": torch.zeros(len(positions), 1)}

    ids = list("abcdef")
    cache = RowCache("test", {}, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache.rows(ids, stops, batch_size=2)
    rest = Counter()
    cache.rows(ids, rest, batch_size=2)
    assert rest.asked == [4, 5]
    assert json.loads((cache.folder / "key.json").read_text()) == {}


def test_an_entry_is_held_while_its_rows_are_computed(tmp_path):
    cache = RowCache("test", {}, tmp_path)

    def compute(positions):
        with (
            pytest.raises(LabError, match=r"cache entry .* is in use by process"),
            folder_lock(cache.folder, wait=False, what="cache entry"),
        ):
            pass
        return {"row": torch.zeros(len(positions), 1)}

    assert len(cache.rows(["a", "b"], compute)["row"]) == 2
    with folder_lock(cache.folder, wait=False, what="cache entry"):
        pass


def _hold_briefly(folder, started, end):
    with folder_lock(folder, wait=False, what="run"):
        started.set()
        end.wait(20)


@pytest.mark.medium
def test_a_held_folder_is_refused_and_says_who_holds_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    started, end = context.Event(), context.Event()
    cache = RowCache("test", {"k": 1}, tmp_path)
    cache.rows(["a"], Counter())
    process = context.Process(target=_hold_briefly, args=(cache.folder, started, end))
    process.start()
    try:
        assert started.wait(60)
        with (
            pytest.raises(LabError, match=f"in use by process {process.pid}"),
            folder_lock(cache.folder, False, "run"),
        ):
            pass
        with pytest.raises(LabError, match=f"cache entry .* in use by process {process.pid}"):
            clear_cache(root=tmp_path)
        assert cache.rows(["a"], Counter())["row"].item() == 0  # what is there is read meanwhile
    finally:
        process.kill()
        process.join()
    with folder_lock(cache.folder, wait=False, what="run"):  # a dead holder's lock is free
        pass
    assert clear_cache(root=tmp_path) == 1
    assert cache.held() == set()


_LOCKED = {
    "run": lambda at, model: contextlib.ExitStack().enter_context(
        open_run("r", {}, choose_compute("cpu"), at)
    ),
    "cache entry": lambda at, model: RowCache("test", {}, at).rows(["a"], Counter()),
    "scores": lambda at, model: score_folder(at, model, at / "scores.csv", device="cpu"),
    "sweep": lambda at, model: run_sweep(REPOSITORY / "notebooks/03_train.ipynb", {"seed": [1]}),
    "views": lambda at, model: make_views([], at),
}


@pytest.mark.parametrize("number", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EPERM"])
@pytest.mark.parametrize("what", _LOCKED)
def test_a_drive_without_locks_is_named(what, number, tmp_path, monkeypatch, student_folder):
    number = getattr(errno, number)

    def no_locks(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setenv("DPIQA_HOME", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", no_locks)
    photographs(tmp_path, 1)
    told = rf"^{what} {tmp_path}.* cannot be locked .*{os.strerror(number)}.*Set DPIQA_HOME to"
    with pytest.raises(LabError, match=told):
        _LOCKED[what](tmp_path, student_folder)
    written = [p.name for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".png"]
    assert all(name.endswith("lock") for name in written), "written without a lock"
    monkeypatch.undo()
    with folder_lock(
        tmp_path, wait=False, what="run"
    ):  # nothing is left over that would be in the way
        pass


def test_a_lock_that_cannot_be_written_is_another_matter(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(IsADirectoryError), folder_lock(tmp_path, wait=False, what="run"):
        pass


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(LabError, match=r"a\.json could not be written: the disk.*MB are"):
            write_json(path, {"x": "y" * 2000})
        with pytest.raises(LabError, match=r"w\.safetensors could not be written"):
            save_weights(tmp_path / "w.safetensors", {"w": torch.zeros(1000)})
        with pytest.raises(LabError, match=r"metrics\.jsonl could not be written"):
            Run(tmp_path, {}, "new").log({"losses": [0.0] * 1000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_json(path) == {"x": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "metrics.jsonl"]
    with (
        pytest.raises(FileNotFoundError),
        check_disk_space(path),
    ):  # other errors are left as they are
        (tmp_path / "none").read_text()


def test_the_notes_of_a_worker_are_cut_where_the_disk_was_full(tmp_path):
    run = Run(tmp_path, {}, "new")
    run.log({"step": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    run.rewind(2)
    run.log({"step": 2})
    assert run.history()["step"].tolist() == [1, 2]
