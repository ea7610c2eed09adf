"""Works in processes of their own, forked from one that has imported everything, and killed."""

import io
import json
import multiprocessing
import os
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import safe_open

# A server that has imported the jobs and done nothing else: no thread runs in it, so what it forks
# is sound, and starts in hundredths of a second.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.torture.jobs"])
_PATIENCE = 1800.0


class Points:
    """The moments of a process at which a file is being written; at one of them it may die."""

    def __init__(self, die_at: int | None = None):
        self.die_at = die_at
        self.seen = 0

    def watch(self) -> None:
        """Count every flush, rename and removal, and every half of a safetensors file."""
        from dpiqa_lab.core import cache
        from dpiqa_lab.training import checkpoints

        for module, name in ((os, "fsync"), (os, "replace"), (shutil, "rmtree")):
            setattr(module, name, self._before(getattr(module, name)))
        for module in (cache, checkpoints):
            module.save_file = self._halves(module.save_file)

    def _before(self, function):
        def watched(*arguments, **options):
            self._point()
            return function(*arguments, **options)

        return watched

    def _halves(self, save_file):
        def watched(tensors, path, *rest):
            save_file(tensors, path, *rest)
            self._point(path)

        return watched

    def _point(self, half: Path | None = None) -> None:
        self.seen += 1
        if self.seen == self.die_at:
            if half is not None:
                os.truncate(half, Path(half).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)


def start(
    job: str, inputs: Path, home: Path, die_at: int | None = None, limit: int | None = None
) -> multiprocessing.Process:
    """A process at work; what it says is kept beside its home, see ``told``.

    Args:
        die_at: one of its ``Points``. limit: bytes a file may have, in place of a full disk.
    """
    home.mkdir(parents=True, exist_ok=True)
    process = _SERVER.Process(target=_work, args=(job, inputs, home, die_at, limit))
    process.start()
    return process


def _work(job: str, inputs: Path, home: Path, die_at: int | None, limit: int | None) -> None:
    os.setpgid(0, 0)
    log = os.open(_beside(home, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["DPIQA_HOME"] = str(home)
    from tests.torture import jobs

    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
    points = Points(die_at)
    points.watch()
    try:
        work = jobs.JOBS[job].work if job in jobs.JOBS else getattr(jobs, job)
        work(inputs, home)
    except BaseException as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)  # the log has no limit
        traceback.print_exc()
        print(f"ended by {type(error).__name__}: {error}", flush=True)
        raise SystemExit(1) from error
    _beside(home, "points").write_text(str(points.seen))


def _beside(home: Path, what: str) -> Path:
    return home.with_name(f"{home.name}.{what}")


def told(home: Path) -> str:
    """What the works under ``home`` have said so far."""
    log = _beside(home, "log")
    return log.read_text(encoding="utf-8") if log.exists() else ""


def until(seen: Callable[[], bool], process: multiprocessing.Process) -> None:
    """Wait for something that ``process`` does while it is at work."""
    deadline = time.monotonic() + _PATIENCE
    while not seen():
        assert process.is_alive(), "it ended too early"
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


def ended(process: multiprocessing.Process, home: Path) -> None:
    """Wait for a process to end by itself, and well."""
    process.join(_PATIENCE)
    if process.is_alive():
        process.kill()
    assert process.exitcode == 0, told(home)[-3000:]


class Series:
    """One job, undisturbed once, then killed and started again until it has ended.

    Attributes:
        expected: bytes by name that the undisturbed run left, under ``whole``. kills, inside (those
            inside a write), compared (completed runs), bytes: the counts so far.
    """

    def __init__(self, job: str, inputs: Path, base: Path, seed: int = 0):
        self.job, self.inputs, self.base = job, inputs, base
        self.rng = np.random.default_rng(seed)
        self.kills = self.inside = self.compared = self.bytes = 0
        self.whole = self.home = base / "whole"
        began = time.monotonic()
        ended(start(job, inputs, self.home), self.home)
        self.seconds = time.monotonic() - began
        self.points = int(_beside(self.home, "points").read_text())
        self.expected = _result(job, self.home)
        self.home = base / "killed-0"

    def run(self, kills: int) -> str:
        """``kills`` of them, and the counts in words."""
        began = time.monotonic()
        while self.kills < kills:
            self._once()
        self.end()
        return (
            f"{self.job}: {self.kills} kills survived ({self.inside} of them inside a write), "
            f"{self.compared} completed runs compared, {self.bytes:,} bytes in "
            f"{len(self.expected)} files each are the same; {time.monotonic() - began:.0f} s"
        )

    def _once(self) -> None:
        # Half of them at a random moment, half at one of those at which files are written.
        within = self.kills % 2 == 0
        die_at = int(self.rng.integers(1, self.points + 1)) if within else None
        process = start(self.job, self.inputs, self.home, die_at)
        process.join(_PATIENCE if within else self.rng.uniform(0.05, self.seconds))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), told(self.home)[-3000:]
        if process.exitcode == 0:  # a resumed run has fewer moments, and may end before
            self._compare()
            return
        self.kills += 1
        self.inside += within
        check_whole(self.home, self.expected.get("scores.csv"))

    def stop(self, kind: signal.Signals, said: str) -> None:
        """Start the work, and once it has said so much, send it ``kind``; it must not end well."""
        known = len(told(self.home))
        process = start(self.job, self.inputs, self.home)
        until(lambda: said in told(self.home)[known:], process)
        os.kill(process.pid, kind)
        process.join(_PATIENCE)
        assert process.exitcode not in (0, None), "it ended before it was stopped"

    def end(self) -> None:
        """Start the work of the present home again, let it end and compare."""
        ended(start(self.job, self.inputs, self.home), self.home)
        self._compare()

    def _compare(self) -> None:
        found = _result(self.job, self.home)
        assert found.keys() == self.expected.keys()
        for name, content in self.expected.items():
            assert found[name] == content, f"{name} differs from the undisturbed run's"
        self.compared += 1
        self.bytes += sum(map(len, found.values()))
        self.home = self.base / f"killed-{self.compared}"


def _result(job: str, home: Path) -> dict[str, bytes]:
    from tests.torture.jobs import JOBS

    return JOBS[job].result(home)


def check_whole(home: Path, scores: bytes | None = None) -> None:
    """No file under its final name is a part of one.

    ``scores.csv`` grows row by row: it must be the beginning of ``scores``.
    """
    for path in home.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(home).parts)
        if hidden or not path.is_file():
            continue
        if path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                for name in file.keys():  # noqa: SIM118
                    file.get_tensor(name)
        elif path.suffix in (".json", ".ipynb"):
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".npy":
            np.load(path, mmap_mode="r")
        elif path.name == "scores.csv":
            assert scores.startswith(path.read_bytes())
        elif path.name == "scores-files.csv":  # as the scores, but for the files' time stamps
            for line in path.read_bytes().split(b"\n")[:-1]:
                assert line.count(b",") >= 2, line
        elif path.suffix == ".csv":
            assert path.read_bytes().endswith(b"\n"), path
        elif path.suffix == ".jsonl":
            lines = io.StringIO(path.read_text()).readlines()
            for line in lines[:-1]:  # the last may be cut, and is dropped by who reads it
                json.loads(line)
