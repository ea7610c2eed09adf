"""What the demo promises: agreement on unseen contents, each held out once.

Measured 0.69, 0.75 and 0.77. With so few scenes the mean depends on which are held out together.
"""

import dataclasses

import numpy as np
import pytest

import dpiqa_lab as lab
from dpiqa_lab.cli import DEMO
from dpiqa_lab.datasets.dataset import QualityDataset
from dpiqa_lab.datasets.split_schemes import folds


@pytest.mark.slow
def test_the_demo_teacher_reaches_070_on_contents_it_has_not_seen():
    demo = lab.load_dataset("demo", image_size=256)
    found = []
    for i, parts in enumerate(folds(demo.manifest.table, 3)):
        config = lab.TrainConfig.from_parameters(
            {**DEMO, "backbone": "tiny", "run_name": f"demo-fold-{i}"}
        )
        table = demo.manifest.table.assign(split=parts)
        manifest = dataclasses.replace(demo.manifest, table=table, split=f"fold {i}")
        fold = QualityDataset(manifest, demo.split, demo.image_size)
        test = lab.train_teacher(config, fold).summary()
        test = test["metrics"]["test"]
        low, high = test["srcc_ci"]
        print(f"fold {i}: SRCC {test['srcc']:.3f} ({low:.3f} to {high:.3f}), n = {test['n']}")
        assert low <= test["srcc"] <= high
        found.append(test["srcc"])
    assert np.mean(found) >= 0.70, found
