"""Two processes on one run folder and one cache: one works, the other waits or says who does."""

import json
import os
import signal

import pytest
from safetensors import safe_open

from tests.torture.killer import ended, start, told, until


@pytest.mark.slow
def test_one_run_folder_one_worker_and_a_dead_one_s_lock_is_free(inputs, tmp_path):
    home = tmp_path / "home"
    first = start("crowded", inputs, home)
    until(lambda: "step 4:" in told(home), first)  # after the first checkpoint
    os.kill(first.pid, signal.SIGSTOP)  # it holds the folder for as long as this takes
    try:
        second = start("crowded", inputs, home)
        second.join(1800)
        assert second.exitcode == 1
        assert f"LabError: run {home}/runs/killed is in use by process {first.pid} on" in told(home)
    finally:
        first.kill()  # its loader's process is left over
        first.join()
    before = len(told(home))
    third = start("crowded", inputs, home)
    ended(third, home)
    assert "resumed killed at step" in told(home)[before:]


@pytest.mark.slow
def test_one_cache_two_workers_nothing_is_computed_twice_or_damaged(inputs, tmp_path):
    home = tmp_path / "home"
    both = [start("extraction", inputs, home) for _ in range(2)]
    for process in both:
        ended(process, home)
    entries = 0
    for key in home.glob("cache/*/*/key.json"):
        ids = []
        for path in key.parent.glob("*.safetensors"):
            with safe_open(path, "np") as file:
                ids += json.loads(file.metadata()["ids"])
        assert len(ids) == len(set(ids)) > 0, f"rows of {key.parent} were computed twice"
        entries += 1
    assert entries >= 7  # latents, prompts and 6 of features
    assert "damaged" not in told(home)
    alone = tmp_path / "alone"
    ended(start("extraction", inputs, alone), alone)
    assert (home / "features.bin").read_bytes() == (alone / "features.bin").read_bytes()


@pytest.mark.slow
def test_a_killed_worker_s_entry_is_taken_over_by_the_one_that_waits(inputs, tmp_path):
    home = tmp_path / "home"
    first = start("extraction", inputs, home)
    until(lambda: list(home.glob("cache/features/*/*.safetensors")), first)
    os.kill(first.pid, signal.SIGSTOP)
    second = start("extraction", inputs, home)
    waiting = f"is in use by process {first.pid} on"
    until(lambda: waiting in told(home), second)
    assert "waiting for it to end" in told(home)
    first.kill()
    first.join()
    ended(second, home)
    assert (home / "features.bin").is_file()
