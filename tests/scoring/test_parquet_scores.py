"""Long lists: memory does not grow with what is done, and an interruption costs one part."""

import json

import numpy as np
import pandas as pd
import psutil
import pytest

import dpiqa_lab as lab
from dpiqa_lab.core.progress import tracked
from dpiqa_lab.scoring.parquet_scores import MANIFEST
from tests.conftest import photographs
from tests.support.stub_scorer import StubScorer

N = 60_000


class _Memory:
    """A watcher that notes the process's memory in MB, of one bar; it may end the work."""

    def __init__(self, bar: str, stop: int | None = None):
        self.used, self.bar, self.stop = [], bar, stop

    def __call__(self, what, done, total):
        if what != self.bar:
            return
        self.used.append(psutil.Process().memory_info().rss / 2**20)
        if done == self.stop:
            raise KeyboardInterrupt

    def growth(self) -> float:
        """From the second quarter to the last."""
        quarter = len(self.used) // 4
        return max(self.used[3 * quarter :]) - max(self.used[quarter : 2 * quarter])


@pytest.mark.slow
def test_a_long_list_is_scored_in_flat_memory_and_goes_on_where_it_was_stopped(tmp_path):
    entries, out = tmp_path / "entries.txt", tmp_path / "scores"
    names = [f"{i // 1000:03d}/{i:06d}.png" for i in range(N)]
    entries.write_text("\n".join(names))
    stopped = _Memory("scoring parts", stop=40)
    with pytest.raises(KeyboardInterrupt), tracked(stopped):
        lab.scoring.score_parts(entries, out, StubScorer(reads=False), device="cpu")
    assert json.loads((out / MANIFEST).read_text())["status"] == "running"
    assert len(list(out.glob("part-*"))) == 40
    rest = _Memory("scoring parts")
    with tracked(rest):
        manifest = lab.scoring.score_parts(entries, out, StubScorer(reads=False), device="cpu")
    assert manifest["new"] == N - 40 * 512
    assert len(rest.used) == 1 + len(manifest["parts"]) - 40
    assert rest.growth() < 15
    table = pd.read_parquet(out)
    assert table["name"].tolist() == names
    assert np.allclose(table["score"], np.arange(N) % 1000 / 1000, atol=1e-6)
    assert manifest["photographs"] == sum(part["rows"] for part in manifest["parts"]) == N


@pytest.mark.slow
def test_extraction_keeps_no_more_than_its_features(tmp_path):
    photographs(tmp_path / "photos", 800).to_csv(tmp_path / "photos" / "scores.csv", index=False)
    dataset = lab.load_dataset("folder", tmp_path / "photos", image_size=64, mos_range=(0, 100))
    backbone = lab.load_backbone("tiny", random_weights=True)
    memory = _Memory("extracting features")
    with tracked(memory):
        features = lab.extract_features(backbone, dataset, cache_dir=tmp_path / "cache")
    assert len(features) == 800
    assert len(memory.used) == 101
    assert memory.growth() < 25
