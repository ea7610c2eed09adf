"""What ``make demo`` promises of quality, on every content of the demo set once."""

import pandas as pd
import pytest

import dpiqa_lab as lab
from dpiqa_lab.__main__ import DEMO
from dpiqa_lab.datasets.splits import folds


@pytest.mark.slow
def test_unseen_contents_are_ranked(capsys):
    options = {name: value for name, value in DEMO.items() if name != "run_name"}
    parts = []
    for i, split in enumerate(folds(lab.load_dataset("demo").manifest.table, 3)):
        config = lab.TrainConfig.from_parameters({**options, "run_name": f"fold-{i}"})
        dataset = lab.load_dataset("demo", **config.dataset_options())
        run = lab.train_teacher(config, dataset.with_split(split, f"fold {i + 1} of 3, by content"))
        test = run.summary()["metrics"]["test"]
        parts.append({key: test[key] for key in ("n", "srcc", "srcc_ci", "plcc")})
    table = pd.DataFrame(parts)
    with capsys.disabled():
        print(f"\n{table}\nmean SRCC {table['srcc'].mean():.3f}")
    assert table["n"].sum() == 840
    assert all(low <= srcc <= high for srcc, (low, high) in table[["srcc", "srcc_ci"]].to_numpy())
    assert table["srcc"].mean() >= 0.70
