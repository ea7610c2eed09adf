"""Two processes that train together do what one does; every photograph once an epoch."""

import itertools
import json
import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

import dpiqa_lab as lab
from dpiqa_lab.core import distributed
from dpiqa_lab.core.paths import runs_dir
from dpiqa_lab.core.runs import find_run
from dpiqa_lab.training.batches import StepBatches
from tests.support.configs import QUICK

LAUNCH = [
    sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
    "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
    "--main_process_port", "0", "-m", "dpiqa_lab", "train",
]  # fmt: skip


def _as_process(monkeypatch, rank, count):
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "count", lambda: count)


@pytest.mark.parametrize(
    ("n", "batch_size", "accumulation", "count"),
    list(itertools.product((1, 2, 7, 16, 33), (1, 4), (1, 3), (2, 3, 5))),
)
def test_shares_of_all_processes_are_the_steps_of_one(
    n, batch_size, accumulation, count, monkeypatch
):
    def steps(accumulation):
        batches = StepBatches(range(n), batch_size, accumulation, 7, 0)
        found = list(batches.epoch(3))
        assert len(found) == len(batches)
        assert [s.total for s in batches.epoch(3, 1)] == [s.total for s in found[1:]]
        return found

    whole = steps(accumulation * count)
    shares = []
    for rank in range(count):
        _as_process(monkeypatch, rank, count)
        shares.append(steps(accumulation))
    for step, *parts in zip(whole, *shares, strict=True):
        assert all(part.total == step.total for part in parts)
        assert all(len(part) >= 1 for part in parts)
        counted = [part for part in parts if part.counts]
        # In turn: the first batch of each, the second of each and so on, as one process has them.
        turns = itertools.chain(*itertools.zip_longest(*counted))
        taken = [batch.tolist() for batch in turns if batch is not None]
        assert taken == [batch.tolist() for batch in step]
    seen = [i for share in shares for s in share if s.counts for batch in s for i in batch.tolist()]
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize(("n", "count"), [(0, 2), (1, 2), (7, 3), (8, 2)])
def test_what_is_predicted_is_somebodys_and_nobody_elses(n, count, monkeypatch):
    found = []
    for rank in range(count):
        _as_process(monkeypatch, rank, count)
        found += distributed.shard_indices(n)
    assert sorted(found) == list(range(n))


def _launch(what, options):
    words = [word for name, value in options.items() for word in ("-p", name, str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*LAUNCH, what, *words], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def _same(one, two, atol):
    """Weights, losses and predictions of two runs agree; two processes made the second."""
    assert two.config["processes"] == 2
    for name in ("best", "last"):
        first, second = (load_file(run.checkpoints / f"{name}.safetensors") for run in (one, two))
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert torch.allclose(value, second[key], atol=atol), key
    first, second = one.history(), two.history()
    assert list(first["step"]) == list(second["step"])
    losses = [np.concatenate(history["losses"].to_list()) for history in (first, second)]
    assert np.allclose(*losses, rtol=1e-3)
    first, second = one.predictions(), two.predictions()
    assert np.allclose(first.pop("score"), second.pop("score"), atol=1e-4)
    pd.testing.assert_frame_equal(first, second)


@pytest.fixture
def one_thread():
    """As the launched processes have: more would round otherwise, and Adam magnify it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


TEACHER = {"max_steps": 7, "precision": "float32", "validate_every": 3, "batch_size": 5}


@pytest.mark.slow
def test_a_teacher_of_two_processes_is_that_of_one(small_folder, one_thread):
    # 21 train photographs: the third step of an epoch has one, and nothing for the second process.
    options = {**QUICK, **TEACHER, "data_root": str(small_folder)}
    launched = _launch("teacher", {**options, "run_name": "two"})
    said, _ = launched.communicate(timeout=600)
    assert launched.returncode == 0, said
    assert said.count("test SRCC") == 1
    assert said.count("step 3: loss") == 1
    config = lab.TrainConfig.from_parameters(
        {**options, "run_name": "one", "accumulation_steps": 2}
    )
    _same(lab.train_teacher(config), find_run("two"), 2e-5)
    with pytest.raises(lab.LabError, match="processes: 2 in the run, absent requested"):
        lab.train_teacher(lab.TrainConfig.from_parameters({**options, "run_name": "two"}))


@pytest.mark.slow
def test_a_student_of_two_processes_killed_and_resumed_is_that_of_one(small_folder, one_thread):
    options = {
        "dataset": "folder", "mos_range": "0,100", "data_root": str(small_folder),
        "trunk": "frequency", "trunk_weights": "none", "image_size": 64, "batch_size": 4,
        "validate_every": 6, "max_steps": 60, "device": "cpu", "precision": "float32",
    }  # fmt: skip
    launched = _launch("student", {**options, "run_name": "two-student"})
    path = runs_dir() / "two-student" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and launched.poll() is None:
        if any(path.parent.glob("checkpoints/step-*")):
            break
        time.sleep(0.01)
    launcher = psutil.Process(launched.pid)
    for process in (*launcher.children(recursive=True), launcher):
        process.kill()
    launched.communicate()
    assert not (path.parent / "predictions.csv").exists(), "it ended before it was killed"
    again = _launch("student", {**options, "run_name": "two-student"})
    said, _ = again.communicate(timeout=600)
    assert again.returncode == 0, said
    assert "resumed two-student at step" in said
    config = lab.DistillConfig.from_parameters(
        {**options, "run_name": "one-student", "accumulation_steps": 2}
    )
    one, two = lab.train_student(config), find_run("two-student")
    _same(one, two, 1e-4)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(6, 61, 6))
