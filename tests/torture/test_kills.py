"""Killed at any moment, a work that is started again ends with the bytes of an undisturbed one."""

import os
import signal

import pytest
from safetensors import safe_open

from tests.torture.killer import Series

pytestmark = pytest.mark.medium

KILLS = int(os.environ.get("DPIQA_KILLS", "3"))


@pytest.mark.parametrize("job", ["training", "distillation"])
def test_killed_and_interrupted_a_training_ends_with_the_same_bytes(job, inputs, tmp_path):
    series = Series(job, inputs, tmp_path)
    series.stop(signal.SIGKILL, "step 4:")
    series.stop(signal.SIGINT, "step 6:")  # Ctrl-C ends the step and writes a checkpoint
    series.end()
    assert series.compared == 1
    if job == "distillation":  # the weights are those of the running mean, under a student's names
        path = series.whole / "runs/killed/checkpoints/last.safetensors"
        with safe_open(path, "np") as file:
            assert "regressor.fc2.bias" in file.keys()  # noqa: SIM118


@pytest.mark.slow
@pytest.mark.parametrize(
    "job", ["training", "distillation", "extraction", "sweep", "scoring", "prior"]
)
def test_killed_it_ends_with_the_same_bytes(job, inputs, tmp_path, capsys):
    said = Series(job, inputs, tmp_path).run(KILLS)
    with capsys.disabled():
        print(f"\n{said}")
