"""A run's metrics by part and subset, of predictions whose answers are known."""

import numpy as np
import pandas as pd
import pytest

from dpiqa_lab import metrics
from dpiqa_lab.training.run_metrics import metrics_line, part_metrics


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    subset = np.repeat(["phone", "studio"], 30)
    mos = rng.uniform(0, 0.5, 60) + 0.5 * (subset == "studio")
    score = rng.uniform(0, 0.5, 60) + 0.5 * (subset == "studio")
    split = np.tile(["val", "test", "test"], 20)
    return pd.DataFrame({"mos": mos, "score": score, "split": split, "subset": subset})


def test_subsets_stand_beside_each_part(predictions):
    train = pd.DataFrame({"mos": [0.1, 0.3, 0.8], "subset": ["phone", "phone", "studio"]})
    found = part_metrics(predictions, train)
    assert set(found) == {"val", "test"}
    test, rows = found["test"], predictions.query("split == 'test'")
    assert test["srcc"] == pytest.approx(metrics.srcc(rows["score"], rows["mos"]))
    assert set(test["subsets"]) == {"phone", "studio"}
    # Of 20 photographs each: the weights are equal.
    within = np.mean([subset["srcc"] for subset in test["subsets"].values()])
    assert test["within_subsets"]["srcc"] == pytest.approx(within)
    assert test["within_subsets"]["n"] == test["subset_oracle"]["n"] == 40
    means = rows["subset"].map({"phone": 0.2, "studio": 0.8})
    assert test["subset_oracle"]["srcc"] == pytest.approx(metrics.srcc(means, rows["mos"]))
    assert test["subset_oracle"]["plcc"] == pytest.approx(metrics.plcc(means, rows["mos"]))
    assert abs(within) < 0.5 < test["subset_oracle"]["srcc"]
    line = metrics_line(test)
    assert f"SRCC within subsets {within:.3f}" in line
    assert f"the subset alone gives {test['subset_oracle']['srcc']:.3f}" in line


def test_intervals_resample_whole_groups(predictions):
    groups = [f"scene {i // 6}" for i in range(60)]
    alone, grouped = (
        part_metrics(table)["test"] for table in (predictions, predictions.assign(group=groups))
    )
    rows = predictions.assign(group=groups).query("split == 'test'")
    expected = metrics.bootstrap(
        rows["score"], rows["mos"], ("srcc",), groups=rows["group"], within=rows["subset"]
    )
    assert grouped["within_subsets"]["srcc_ci"] == pytest.approx(list(expected["srcc"]))
    assert grouped["within_subsets"]["srcc_ci"] != alone["within_subsets"]["srcc_ci"]
    assert grouped["within_subsets"]["srcc"] == alone["within_subsets"]["srcc"]


def test_a_dataset_without_subsets_has_none(predictions):
    found = part_metrics(predictions.drop(columns="subset"), predictions[["mos"]])["test"]
    assert not {"subsets", "within_subsets", "subset_oracle"} & set(found)
    assert metrics_line(found).endswith("n 40")
