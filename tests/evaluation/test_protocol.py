import dataclasses

import numpy as np
import pandas as pd
import pytest

import dpiqa_lab as lab
from dpiqa_lab.__main__ import main
from dpiqa_lab.core.paths import runs_dir
from dpiqa_lab.core.runs import find_run

pytestmark = pytest.mark.medium

QUICK = {
    "dataset": "folder", "labels": "scores.csv", "mos_range": "0,100", "backbone": "tiny",
    "prompts": "none", "image_size": 64, "decoder_width": 8, "batch_size": 4, "max_steps": 1,
    "device": "cpu", "start": "torch",
}  # fmt: skip


def test_splits_are_trained_once_each_and_tested_on_photographs_of_their_own(small_folder, capsys):
    parameters = {**QUICK, "data_root": str(small_folder), "run_name": "several"}
    config = lab.TrainConfig.from_parameters(parameters)
    table = lab.evaluation.run_protocol(config, 2)
    assert table["run"].tolist() == ["several-split-0", "several-split-1"]
    assert table["n"].tolist() == [6, 6]
    tests = [
        set(find_run(name).predictions().query("split == 'test'")["name"]) for name in table["run"]
    ]
    assert tests[0] != tests[1]
    saved = runs_dir() / "several-protocol-2" / "protocol.csv"
    pd.testing.assert_frame_equal(pd.read_csv(saved, float_precision="round_trip"), table)
    capsys.readouterr()
    again = lab.evaluation.run_protocol(config, 2)
    assert capsys.readouterr().out.count("reused") == 1
    pd.testing.assert_frame_equal(again, table)
    fixed = lab.evaluation.run_protocol(
        dataclasses.replace(config, run_name="fixed", split_scheme="random"), 1
    )
    assert fixed["srcc"].tolist() == table["srcc"].tolist()[:1]
    with pytest.raises(lab.LabError, match="at least 1, got 0"):
        lab.evaluation.run_protocol(config, 0)


def test_the_command_prints_medians_and_says_where_the_checkpoint_was_chosen(small_folder, capsys):
    words = ["protocol", "folder", "--root", str(small_folder), "--splits", "1"]
    for name, value in {**QUICK, "run_name": "told", "recipe": "official"}.items():
        if name != "dataset":
            words += ["-p", name, str(value)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "median of 1 random splits, checkpoint chosen on the TEST part" in said
    assert "plcc_logistic" in said
    assert main(["protocol", "folder", "-p", "max_step", "1"]) == 2
    assert "Did you mean 'max_steps'" in capsys.readouterr().err


def test_what_is_said_over_splits_by_hand():
    rows = {name: [0.2, 0.4, 0.9] for name in ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")}
    result = lab.evaluation.summarize_splits(pd.DataFrame(rows)).loc["srcc"]
    assert result["median"] == 0.4
    assert result["mean"] == pytest.approx(0.5)
    assert result["std"] == pytest.approx(np.sqrt((0.09 + 0.01 + 0.16) / 2))
    assert (result["low"], result["high"]) == (0.2, 0.9)


def test_published_results_stand_below_ours():
    config = lab.TrainConfig.from_parameters({"dataset": "koniq", "backbone": "tiny"})
    rows = {name: [0.5] for name in ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")}
    table = lab.evaluation.beside_published(pd.DataFrame(rows), config)
    assert table.loc[0, "srcc"] == 0.5
    theirs = table.set_index("method").loc["DP-IQA"]
    assert (theirs["plcc"], theirs["srcc"]) == (0.951, 0.942)  # arXiv 2405.19996
    assert "test part" in theirs["protocol"]
    assert table["source"].str.len().min() > 0
