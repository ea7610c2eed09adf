"""A full disk: the file and the way out are named, and nothing that was computed is lost."""

import contextlib
import re
import subprocess

import pytest

from tests.torture.killer import Series, check_whole, start, told

# Bytes that a file may have where no small disk can be mounted, and for the small files of scoring.
LIMITS = {"training": 3_000_000, "extraction": 200_000, "scoring": 1200}


def _mount(folder, size):
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True).returncode == 0


@contextlib.contextmanager
def _small_disk(folder, size, wanted):
    """Whether ``folder`` is a disk of ``size`` bytes now, if wanted; it is none afterwards."""
    folder.mkdir()
    mounted = wanted and _mount(folder, size)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _size(home):
    """Bytes of a home on a disk of pages."""
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in home.rglob("*") if p.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("job", LIMITS)
def test_a_full_disk_is_named_and_nothing_is_lost(job, inputs, tmp_path, capsys):
    series = Series(job, inputs, tmp_path)
    size = _size(series.whole) * 4 // 10
    if job == "training":  # for its best weights and one checkpoint, three times as large
        size = 6 * (series.whole / "runs/killed/checkpoints/best.safetensors").stat().st_size
    with _small_disk(series.home, size, job != "scoring") as mounted:
        process = start(job, inputs, series.home, limit=None if mounted else LIMITS[job])
        process.join(1800)
        said = told(series.home)
        assert process.exitcode == 1, said[-3000:]
        message = re.search(
            r"ended by LabError: (\S+) could not be written: the disk is full", said
        )
        assert message, said[-3000:]
        assert message[1].startswith(str(series.home))
        if job == "training" and mounted:
            assert message[1].endswith("/checkpoints/step-00000004")
        assert "Free some space and start again" in said
        check_whole(series.home, series.expected.get("scores.csv"))
        before = {p: p.stat().st_ino for p in series.home.glob("cache/*/*/*.safetensors")}
        rows = series.home / "scores.csv"
        kept = rows.read_bytes().count(b"\n") - 1 if rows.is_file() else 0
        if mounted:
            options = f"remount,size={100 * size}"
            subprocess.run(["mount", "-o", options, str(series.home)], check=True)
        home = series.home
        series.end()
        again = told(home)[len(said) :]
        assert all(p.stat().st_ino == inode for p, inode in before.items())
    if job == "training" and mounted:
        assert "resumed killed at step" in again
    if job == "extraction":
        assert before
    if job == "scoring":
        assert kept > 5
    with capsys.disabled():
        how = "a full tmpfs" if mounted else "a limit on file sizes"
        print(f"\n{job}: {how} survived; {series.bytes:,} bytes the same afterwards")
