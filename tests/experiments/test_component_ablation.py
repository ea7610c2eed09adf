import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

import dpiqa_lab as lab
from dpiqa_lab.core.runs import find_run
from dpiqa_lab.experiments.component_ablation import ALL, compare_components, thinned
from dpiqa_lab.experiments.component_ablation_config import VARIANTS
from tests.support.configs import QUICK


def _config(root="nowhere", **options):
    given = {**QUICK, "max_steps": 1, "data_root": str(root), **options}
    return lab.experiments.ComponentsConfig.from_parameters(given)


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "whole"])
def test_an_arm_lacks_one_thing(variant):
    config = _config()
    whole, other = (config.training(name, 0).identity() for name in ("whole", variant))
    changed = {name for name in whole if whole[name] != other[name]}
    assert changed == set(VARIANTS[variant]) - ({"prompts"} if variant == "no prompts" else set())
    if variant == "random weights":
        assert (whole["adapter_start"], other["adapter_start"]) == ("prior", "torch")


def test_a_training_is_found_again_whatever_it_is_compared_with():
    few, many = _config(variants="whole"), _config(seeds=5)
    assert few.run_name != many.run_name
    assert few.training("whole", 0).run_name == many.training("whole", 0).run_name
    others = [_config(train_fraction=0.5), _config(max_test_images=9), _config(max_steps=2)]
    names = {config.training("whole", 0).run_name for config in (few, *others)}
    assert len(names) == 4
    with pytest.raises(lab.LabError, match="variants is empty"):
        _config(variants="")


def test_a_share_of_train_and_val_the_same_test(small_folder):
    dataset = lab.load_dataset("folder", small_folder, mos_range=(0, 100))
    names = dict(dataset.table.groupby("split")["name"].apply(set))
    drawn = [thinned(dataset, *how) for how in ((0.4, 0), (0.8, 0), (0.4, 1), (0.4, 1, 4))]
    less, more, other, tested = (dict(d.table.groupby("split")["name"].apply(set)) for d in drawn)
    assert len(less["train"]) == round(0.4 * len(names["train"]))
    assert less["train"] < more["train"] < names["train"]
    assert less["train"] != other["train"]
    assert less["test"] == more["test"] == other["test"] == names["test"]
    assert len(tested["test"]) == 4
    assert {len(part["val"]) for part in (less, more, other)} == {3}  # the least
    note = "40% of the train and val photographs, drawn by seed 1"
    assert note in drawn[2].manifest.notes


def test_gains_are_of_the_same_seed():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        [(variant, seed, ALL, rng.random(), rng.random()) for seed in range(4) for variant in "ab"],
        columns=["variant", "seed", "subset", "srcc", "plcc"],
    )
    scored = pd.DataFrame(
        [
            (variant, seed, f"{i}.jpg", i / 20, i + spread * rng.normal())
            for seed in range(4)
            for variant, spread in (("a", 1), ("b", 40))
            for i in range(20)
        ],
        columns=["variant", "seed", "name", "mos", "score"],
    )
    table = compare_components(rows.sample(frac=1, random_state=0).sort_values("variant"), scored)
    first, second = (rows[rows["variant"] == variant]["srcc"].to_numpy() for variant in "ab")
    a, b = table.to_dict("records")
    assert (a["gain"], a["gain_low"], a["gain_high"]) == (0, 0, 0)
    assert b["gain"] == pytest.approx((second - first).mean())
    expected = ttest_rel(second, first).confidence_interval()
    assert (b["gain_low"], b["gain_high"]) == pytest.approx(tuple(expected))
    assert b["seeds"] == 4
    assert (a["gain_test_low"], a["gain_test_high"]) == (0, 0)
    assert -1.5 < b["gain_test_low"] < b["gain_test_high"] < -0.1  # b's scores are mostly noise
    scored["group"] = scored["name"].str[0]
    grouped = compare_components(rows, scored)["gain_test_low"][1]
    assert grouped != pytest.approx(b["gain_test_low"])
    single = compare_components(rows[rows["seed"] == 0], scored[scored["seed"] == 0])
    assert single["gain_low"].isna().all()
    assert single["gain_test_low"].notna().all()


@pytest.mark.medium
def test_trainings_are_compared_and_kept(small_folder):
    options = {"variants": "whole,random weights", "train_fraction": 0.5, "root": small_folder}
    run = lab.experiments.run_components(_config(seeds=1, **options))
    trainings = pd.read_csv(run.path / "trainings.csv")
    assert list(trainings["variant"]) == ["whole", "random weights"]
    assert find_run(trainings["run"][1]).config["random_weights"]
    summary = find_run(trainings["run"][0]).summary()
    assert trainings["srcc"][0] == pytest.approx(summary["metrics"]["test"]["srcc"])
    assert any("50% of the train and val" in note for note in summary["notes"])
    weights = find_run(trainings["run"][0]).checkpoints / "best.safetensors"
    written = weights.stat().st_mtime_ns
    more = lab.experiments.run_components(_config(seeds=2, **options))
    assert weights.stat().st_mtime_ns == written
    assert len(pd.read_csv(more.path / "trainings.csv")) == 4
    kept = pd.read_csv(more.path / "predictions.csv")
    assert len(kept) == 4 * trainings["n"][0]
    assert list(pd.read_csv(more.path / "components.csv")["seeds"]) == [2, 2]
