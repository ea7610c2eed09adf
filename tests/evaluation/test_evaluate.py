"""Models of every kind on two small folders: scored once, compared, and failures kept apart."""

import dataclasses
import sys
import types

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import dpiqa_lab as lab
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.runs import find_run
from dpiqa_lab.datasets.images import read_image
from dpiqa_lab.evaluation.perturbations import PERTURBATIONS, perturbed
from dpiqa_lab.evaluation.resolve_scorer import resolve_scorer
from tests.conftest import photographs
from tests.support.configs import QUICK

TRAINED = {"max_steps": 2, "precision": "float32", "random_weights": True}


def contrast(paths) -> list[float]:
    """A metric that is right about these photographs."""
    return [float(np.std(read_image(path))) for path in paths]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of 30 small photographs, scored from 0 to 100."""
    found = {}
    for seed, name in enumerate(("cats", "dogs")):
        root = tmp_path_factory.mktemp("folders") / name
        table = photographs(root, 30, seed=seed)
        table["mos"] *= 1 - 0.1 * seed  # names are the same in both
        table.to_csv(root / "scores.csv", index=False)
        found[name] = root
    return found


@pytest.fixture(scope="module")
def datasets(folders):
    options = {"mos_range": (0, 100), "image_size": 64}
    return {name: lab.load_dataset("folder", root, **options) for name, root in folders.items()}


@pytest.fixture(scope="module")
def trained(folders):
    """Runs of teachers trained for two steps on each."""
    return [
        lab.train_teacher(
            lab.TrainConfig.from_parameters(
                {**QUICK, **TRAINED, "data_root": str(root), "run_name": f"on-{name}"}
            )
        ).name
        for name, root in folders.items()
    ]


@pytest.mark.medium
def test_the_oracle_knows_the_subset_s_mean_in_train(datasets):
    dataset = datasets["cats"]
    table = dataset.manifest.table
    table = table.assign(subset=np.where(table["mos"] > 0.5, "good", "bad"))
    manifest = dataclasses.replace(dataset.manifest, table=table)
    dataset = type(dataset)(manifest, dataset.split, dataset.image_size)
    tables = lab.evaluate({"contrast": contrast}, {"cats": dataset}, robustness=0, resamples=20)
    train = table[table["split"] == "train"]
    expected = {name: rows["mos"].mean() for name, rows in train.groupby("subset")}
    scores = tables["scores"]
    assert scores["subset_mean"].tolist() == pytest.approx(list(scores["subset"].map(expected)))
    row = tables["agreement"].query("subset == 'all'").iloc[0]
    assert row["oracle_srcc"] == pytest.approx(lab.metrics.srcc(scores.subset_mean, scores.mos))
    shown = lab.viz.results_table(tables["agreement"])
    assert shown["SRCC of subset means"].iloc[0].startswith(f"{row['oracle_srcc']:.3f} (")
    assert shown["SRCC within subsets"].tolist()[1:] == ["", ""]


@pytest.mark.medium
def test_matrix_of_runs_trained_on_two_datasets(trained, datasets):
    tables = lab.evaluate(trained, datasets, robustness=0, resamples=20)
    cross = tables["cross"].set_index(["trained_on", "tested_on"])
    assert len(cross) == 4
    assert cross["scale"].to_dict() == {
        ("cats", "cats"): "same", ("cats", "dogs"): "other",
        ("dogs", "cats"): "other", ("dogs", "dogs"): "same",
    }  # fmt: skip
    assert cross.loc[("cats", "cats"), "notes"] == ""
    assert "raw PLCC and RMSE compare two scales" in cross.loc[("cats", "dogs"), "notes"]
    matrix = lab.evaluation.cross_dataset(trained, datasets, resamples=20)
    assert list(matrix.columns) == ["cats", "dogs"]
    for run, name in zip(trained, datasets, strict=True):
        row = matrix.loc[f"{run} (trained on {name})"]
        assert row["dogs"] == pytest.approx(cross.loc[(name, "dogs"), "srcc"], nan_ok=True)
        # On its own dataset: what the run itself wrote, here of photographs read from files.
        own = find_run(run).summary()["metrics"]["test"]
        assert cross.loc[(name, name), "rmse"] == pytest.approx(own["rmse"], rel=1e-3)


@pytest.mark.medium
def test_a_run_is_told_which_photographs_it_has_seen(trained, datasets):
    first = {"cats": datasets["cats"]}
    found = lab.evaluate(trained[:1], first, "all", robustness=0, resamples=20)["agreement"]
    assert "trained on 21 of these photographs: not a test" in found["notes"][0]
    found = lab.evaluate(["ridge_on_statistics"], first, "all", robustness=0, resamples=20)
    assert "fitted to 24 of these photographs" in found["agreement"]["notes"][0]


@pytest.mark.medium
def test_predictions_of_a_run_are_taken_as_they_are(trained, datasets):
    table = find_run(trained[0]).predictions()
    models = {"written": f"predictions:{trained[0]}", "table": table, "asked": trained[0]}
    found = lab.evaluate(models, datasets, robustness=4, resamples=20)
    rows = found["agreement"].set_index(["model", "dataset"])
    for name in ("written", "table"):
        assert rows.loc[(name, "cats"), "rmse"] == pytest.approx(
            rows.loc[("asked", "cats"), "rmse"], rel=1e-3
        )
    assert "are of photographs of cats" in rows.loc[("written", "dogs"), "error"]
    assert "another MOS" in rows.loc[("table", "dogs"), "error"]
    assert set(found["robustness"]["model"]) == {"asked"}  # a table has seen no changed copy


def test_a_failure_is_a_row_and_the_others_go_on(datasets):
    def broken(paths):
        raise RuntimeError("burnt out")

    def short(paths):
        return [0.0]

    def endless(paths):
        return [*[0.0] * (len(paths) - 1), np.inf]

    models = [contrast, broken, short, endless, "ridge_on_statistics"]
    tables = lab.evaluate(models, datasets, robustness=3, resamples=20)
    rows = tables["agreement"].set_index(["dataset", "model"])
    assert len(rows) == 10
    cats = rows.loc["cats"]
    assert cats.loc["contrast", "srcc"] > 0.99
    assert cats.loc["broken", "error"] == "RuntimeError: burnt out"
    assert "short gave scores of shape (1,)" in cats.loc["short", "error"]
    assert "endless gave inf for p0" in cats.loc["endless", "error"]
    assert cats.loc[["broken", "short", "endless"], "n"].tolist() == [0, 0, 0]
    assert set(tables["scores"]["model"]) == {"contrast", "ridge_on_statistics"}
    moved = tables["robustness"].query("model == 'contrast'").set_index("change")
    assert set(moved.index) == set(PERTURBATIONS)
    assert moved.loc["mirrored", "moved"].max() < 1e-9  # contrast does not know left from right
    assert moved.loc["resized to 75%", "shift"].max() < 0  # noise is averaged


def test_all_fail_and_still_there_are_tables(datasets):
    def broken(paths):
        raise RuntimeError("burnt out")

    tables = lab.evaluate([broken], datasets, robustness=2, resamples=20)
    assert tables["agreement"]["error"].tolist() == ["RuntimeError: burnt out"] * 2
    assert not len(tables["scores"])


def test_nothing_is_scored_twice(datasets):
    asked = []

    def counted(paths):
        asked.extend(paths)
        return contrast(paths)

    counted.cache_key = "first"
    some = {"cats": datasets["cats"]}
    for _ in range(2):
        lab.evaluate([counted], some, robustness=2, resamples=20)
    n = len(datasets["cats"].in_split("test"))
    assert len(asked) == n + 2 * len(PERTURBATIONS)
    lab.evaluate([counted], some, robustness=3, resamples=20)  # a larger sample
    assert len(asked) > n + 2 * len(PERTURBATIONS)
    assert len(asked) <= n + 5 * len(PERTURBATIONS)
    asked.clear()
    counted.cache_key = "second"
    lab.evaluate([counted], some, robustness=0, resamples=20)
    assert len(asked) == n
    del counted.cache_key
    lab.evaluate([counted], some, robustness=0, resamples=20)
    assert len(asked) == 2 * n


def test_changes_are_what_they_are_called(datasets):
    few = datasets["cats"].sample(2)
    with perturbed(few) as rows:
        assert len(rows) == 2 * len(PERTURBATIONS)
        first = rows.iloc[: len(PERTURBATIONS)].set_index("change")
        before = read_image(few.table["path"][0])
        assert (read_image(first.loc["mirrored", "path"]) == before[:, ::-1]).all()
        assert read_image(first.loc["resized to 75%", "path"]).shape == (48, 48, 3)
        cropped = read_image(first.loc["cropped to 90%", "path"])
        assert (cropped == before[3:61, 3:61]).all()
        with Image.open(first.loc["JPEG, quality 75", "path"]) as picture:
            assert picture.format == "JPEG"
        assert rows["hash"].nunique() == len(rows)
        path = first.loc["mirrored", "path"]
    assert not path.exists()


@pytest.mark.medium
def test_run_is_reused_until_a_model_changes(datasets, folders, capsys):
    config = lab.EvaluateConfig.from_parameters(
        {
            "models": "ridge_on_statistics", "datasets": "folder,folder", "run_name": "twice",
            "data_roots": ",".join(map(str, folders.values())), "mos_range": "0,100",
            "image_size": 64, "robustness": 2, "resamples": 20, "device": "cpu",
        }
    )  # fmt: skip
    run = lab.evaluation.run_evaluation(config)
    assert run.summary()["status"] == "completed"
    tables = lab.evaluation.evaluation_tables(run)
    direct = lab.evaluate(config.models, datasets, robustness=2, resamples=20)
    for name, table in direct.items():
        pd.testing.assert_frame_equal(
            tables[name], table, check_dtype=False, check_like=True, obj=name
        )
    assert "reused" not in capsys.readouterr().out
    lab.evaluation.run_evaluation(config)
    assert "reused" in capsys.readouterr().out

    def mine(paths):
        return contrast(paths)

    with pytest.raises(
        LabError, match=r"model mine: only requested(.|\n)*ridge_on_statistics: only in the run"
    ):
        lab.evaluation.run_evaluation(config, {"mine": mine}, datasets)
    unnamed = dataclasses.replace(config, run_name=None).named()
    for key, said in (("a", False), ("a", True), ("b", False), (None, False), (None, False)):
        mine.cache_key = key
        lab.evaluation.run_evaluation(unnamed, {"mine": mine}, datasets)
        assert ("reused" in capsys.readouterr().out) == said


def test_wrong_parameters_are_named(folders):
    parameters = {"datasets": "demo,folder", "data_roots": "-"}
    with pytest.raises(LabError, match="1 folders for 2 datasets"):
        lab.EvaluateConfig.from_parameters(parameters)
    with pytest.raises(LabError, match="unknown dataset 'dmo'"):
        lab.EvaluateConfig.from_parameters({"datasets": "dmo"})
    with pytest.raises(LabError, match="models is empty"):
        lab.EvaluateConfig.from_parameters({"models": ""})
    root = str(folders["cats"])
    twice = {"datasets": "folder,folder", "data_roots": f"{root},{root}", "mos_range": "0,100"}
    with pytest.raises(LabError, match="two datasets are called cats"):
        lab.EvaluateConfig.from_parameters(twice).load_datasets()


def test_models_that_cannot_be_opened_are_named_before_any_work(datasets, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    for model, message in (
        ("pyiqa:niqe", "pip install pyiqa"),
        ("no_such_run", "no_such_run"),
        (3, "a model is a run, a table, a function"),
        (pd.DataFrame({"name": []}), "no column score"),
    ):
        with pytest.raises(LabError, match=message):
            lab.evaluate({"m": model}, datasets)
    with pytest.raises(LabError, match="two models are called contrast"):
        lab.evaluate([contrast, contrast], datasets)
    with pytest.raises(LabError, match="nothing to score"):
        lab.evaluate([], datasets)


def test_pyiqa_metrics_of_damage_are_turned_round(datasets, monkeypatch):
    class Metric:
        def __init__(self, name, lower_better, metric_mode="NR"):
            self.lower_better, self.metric_mode = lower_better, metric_mode

        def __call__(self, image):
            assert image.shape == (1, 3, 64, 64)
            return (1 - image.std() if self.lower_better else image.std()).reshape(1)

    kinds = {"niqe": (True,), "musiq": (False,), "ssim": (False, "FR")}
    pyiqa = types.SimpleNamespace(
        __version__="0", create_metric=lambda name, device: Metric(name, *kinds[name])
    )
    monkeypatch.setitem(sys.modules, "pyiqa", pyiqa)
    some = {"cats": datasets["cats"]}
    found = lab.evaluate(["pyiqa:niqe", "pyiqa:musiq"], some, robustness=0, resamples=20)
    assert (found["agreement"]["srcc"] > 0.99).all()
    assert (found["agreement"]["scale"] == "own").all()
    with pytest.raises(LabError, match="compares with an undamaged picture"):
        resolve_scorer("pyiqa:ssim")
    with pytest.raises(LabError, match="no such metric"):
        resolve_scorer("pyiqa:nique")
