"""A training that is killed or interrupted ends as if it had not been."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np

from dpiqa_lab.core.runs import find_run
from tests.training.test_training import QUICK

CHILD = """
import sys, json, dpiqa_lab as lab
lab.train_teacher(lab.TrainConfig.from_parameters(json.loads(sys.argv[1])))
"""


def _run_child(options):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(options)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ,
    )  # fmt: skip


def test_killed_and_interrupted_it_ends_with_the_same_bytes(small_folder):
    root = small_folder
    options = {**QUICK, "data_root": str(root), "max_steps": 24}
    whole = _run_child({**options, "run_name": "whole"})
    assert whole.wait(300) == 0, whole.stdout.read()
    run = find_run("whole")
    metrics = run.path.with_name("broken") / "metrics.jsonl"
    rng = np.random.default_rng(0)
    for stop in (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGINT):
        child = _run_child({**options, "run_name": "broken"})
        lines = metrics.read_text().count("\n") if metrics.exists() else 0
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and child.poll() is None:
            if metrics.exists() and metrics.read_text().count("\n") > lines:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        child.send_signal(stop)
        assert child.wait(120) != 0, "it ended before it was stopped"
        child.stdout.close()
    last = _run_child({**options, "run_name": "broken"})
    output, _ = last.communicate(timeout=300)
    assert last.returncode == 0, output
    assert "resumed broken at step" in output
    broken = find_run("broken")
    for name in ("checkpoints/best.safetensors", "checkpoints/last.safetensors", "predictions.csv"):
        assert (broken.path / name).read_bytes() == (run.path / name).read_bytes(), name
    assert broken.history()["step"].tolist() == run.history()["step"].tolist()
    assert broken.history()["losses"].tolist() == run.history()["losses"].tolist()
