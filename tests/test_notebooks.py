"""Notebooks through papermill, from a folder that is not the repository's, on a small folder."""

import os
import signal
import subprocess
import time

import nbformat
import numpy as np
import pandas as pd
import pytest

from dpiqa_lab import LabError, load_model
from dpiqa_lab.__main__ import main
from dpiqa_lab.core.paths import notebook_path, runs_dir
from dpiqa_lab.core.runs import find_run
from tests.conftest import BIQ, REPOSITORY, photographs
from tests.support.configs import QUICK
from tests.support.notebooks import command, papermill

pytestmark = pytest.mark.medium


def test_03_trains_from_any_folder_and_shows_its_figures(small_folder, tmp_path):
    options = {**QUICK, "data_root": "photos", "max_steps": 4, "run_name": "by_papermill"}
    result = papermill(tmp_path, **options)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Unable to parse" not in result.stderr
    run = find_run("by_papermill")
    assert run.summary()["status"] == "completed"
    names = {path.name for path in run.figures.iterdir()}
    assert names == {
        "training_curves.html", "predicted_against_mos.html", "best.html", "worst.html",
        "most_wrong.html",
    }  # fmt: skip
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("application/vnd.plotly.v1+json") == 5
    figures = [o["data"] for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert all("text/html" in figure for figure in figures)  # what a page exported from it shows
    text = str(notebook)
    assert "ridge on simple statistics" in text
    assert "backbone tiny" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.ipynb", "photos"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epoch": 3}, "unknown parameter 'epoch'. Did you mean 'epochs'?"),
        ({"timestep": "early"}, "timestep must be int, got 'early'"),
    ],
)
def test_03_refuses_wrong_parameters_before_any_work(tmp_path, wrong, message):
    result = papermill(tmp_path, **wrong)
    assert result.returncode != 0
    assert message in result.stderr


PROBED = {
    "dataset": "folder", "data_root": "photos", "mos_range": "0,100", "backbone": "tiny",
    "prompts": "prompts.txt", "image_size": 64, "timesteps": "1,100", "splits": 2, "device": "cpu",
}  # fmt: skip


@pytest.fixture
def few_prompts(tmp_path):
    """Prompts that embed in no time, with the words that notebook 01 asks for."""
    text = "noise of bad quality\nblur of bad quality\nof perfect quality\nof fair quality\n"
    (tmp_path / "prompts.txt").write_text(text)


def _shown(folder):
    notebook = nbformat.read(folder / "out.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    return kinds.count("application/vnd.plotly.v1+json"), str(notebook)


def test_01_probes_features_and_shows_its_figures(small_folder, few_prompts, tmp_path):
    options = {**PROBED, "run_name": "by_01", "shown": 2}
    result = papermill(tmp_path, "01_feature_probing", **options)
    assert result.returncode == 0, result.stderr[-3000:]
    run = find_run("by_01")
    assert run.summary()["status"] == "completed"
    assert run.summary()["metrics"]["test"]["srcc"] > 0.5  # of contrast, which is easy to see
    assert {path.stem for path in run.figures.iterdir()} == {
        "layer_by_timestep", "layer_by_statistic", "label_curves", "channels", "channel_extremes",
        "cka", "pearson", "pca", "tsne", "activation_maps", "attention_maps",
    }  # fmt: skip
    names = {path.name for path in run.path.glob("*.csv")}
    tables = {"probes", "statistics", "labels", "channels", "attention", "data"}
    assert {name.removesuffix(".csv") for name in names} == tables
    figures, text = _shown(tmp_path)
    assert figures == 11
    assert "own split" in text
    probes = pd.read_csv(run.path / "probes.csv")
    assert len(probes) == 2 * (9 + 1) * 2  # timesteps, taps and all of them, splits


def test_02_compares_arms_and_trains_at_a_timestep(small_folder, few_prompts, tmp_path):
    short = {"end_to_end": True, "end_to_end_timesteps": "1", "end_to_end_steps": 1}
    options = {**PROBED, "run_name": "by_02", "taps": "mid_block,up_blocks.3", **short}
    result = papermill(tmp_path, "02_timestep_ablation", **options)
    assert result.returncode == 0, result.stderr[-3000:]
    run = find_run("by_02")
    table = pd.read_csv(run.path / "ablation.csv")
    assert table["variant"].value_counts().to_dict() == {
        "as asked": 6, "with noise": 6, "no prompts": 6, "random weights": 6,
        "simple statistics": 1,
    }  # fmt: skip
    assert (table["srcc_low"] <= table["srcc"]).all()
    gains = pd.read_csv(run.path / "combinations.csv").set_index("combination")["gain"]
    assert gains["one tap, one timestep"] == 0
    assert len(gains) == 3
    trained = pd.read_csv(run.path / "end_to_end.csv")
    assert find_run(trained["run"][0]).config["timestep"] == 1
    figures, _ = _shown(tmp_path)
    assert figures == len(list(run.figures.iterdir())) == 6


def test_05_evaluates_and_reports(small_folder, tmp_path):
    options = {
        "models": "ridge_on_statistics,svr_on_naturalness", "datasets": "folder",
        "data_roots": "photos", "mos_range": "0,100", "image_size": 64, "robustness": 3,
        "resamples": 50, "shown": 2, "device": "cpu", "run_name": "by_05",
    }  # fmt: skip
    result = papermill(tmp_path, "05_evaluate", **options)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Unable to parse" not in result.stderr
    run = find_run("by_05")
    assert run.summary()["status"] == "completed"
    table = pd.read_csv(run.path / "agreement.csv").set_index("model")
    assert table.loc["ridge_on_statistics", "srcc"] > 0.5  # of contrast, which is easy to see
    figures, text = _shown(tmp_path)
    # Intervals, differences, panels, errors, robustness, a sheet a model and one of both.
    assert figures == 5 + 2 + 1
    assert "report.html" in text
    assert (run.path / "report.html").stat().st_size > 4e6  # plotly.js is inside


def test_04_distils_students_and_compares_them(small_folder, tmp_path):
    photographs(tmp_path / "extra", 5, seed=1)
    options = {
        "dataset": "folder", "data_root": "photos", "mos_range": "0,100", "image_size": 64,
        "unlabelled": "extra", "teacher_steps": 1, "variants": "labels,both", "max_steps": 2,
        "validate_every": 1, "batch_size": 4, "student_width": 8, "device": "cpu",
        "run_name": "by_04",
    }  # fmt: skip
    result = papermill(tmp_path, "04_distill", **options)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Unable to parse" not in result.stderr
    run = find_run("by_04")
    summary = run.summary()
    assert summary["status"] == "completed"
    table = pd.read_csv(run.path / "ablation.csv").set_index("variant")
    assert list(table.index) == ["teacher", "labels", "both", "both + unlabelled"]
    assert table.loc["labels", "gain"] == 0
    for variant, name in summary["runs"].items():
        test = find_run(name).summary()["metrics"]["test"]
        assert test["srcc"] == pytest.approx(table.loc[variant, "srcc"])
    teacher = find_run("by_04-teacher").predictions().query("split == 'test'")
    agreement = pd.read_csv(run.path / "agreement.csv").query("variant == 'both'")
    assert np.allclose(agreement["teacher"], teacher["score"], atol=1e-4)
    costs = pd.read_csv(run.path / "costs.csv")
    assert (costs[["photographs_per_s", "memory_mb", "weights_mb"]] > 0).all(axis=None)
    student = load_model(summary["student"])
    assert costs["parameters"][1] == sum(p.numel() for p in student.parameters())
    assert costs["parameters"][0] > 10 * costs["parameters"][1]
    figures, text = _shown(tmp_path)
    assert figures == len(list(run.figures.iterdir())) == 5
    assert "5 photographs without a score joined" in text
    with pytest.raises(LabError, match="compared students"):
        load_model("by_04")


def test_06_shows_its_view_without_widgets(small_folder, tmp_path):
    options = {
        "dataset": "folder", "data_root": "photos", "mos_range": "0,100", "image_size": 64,
        "backbone": "tiny", "prompts": "none", "timesteps": "1,100", "taps": "mid_block",
        "device": "cpu", "name": "by_06",
    }  # fmt: skip
    result = papermill(tmp_path, "06_explore", **options)
    assert result.returncode == 0, result.stderr[-3000:]
    figures, text = _shown(tmp_path)
    assert figures == 6
    assert "lab-side" not in text  # of the panel
    assert "papermill " in text
    assert {path.name for path in (runs_dir() / "by_06").iterdir()} == {
        "view.html", "points.csv", "curves.csv", "photographs.png", "command.txt",
    }  # fmt: skip


def test_07_measures_and_shows_its_bars(tmp_path):
    options = {
        "student": "efficientnet_tiny", "image_size": 64, "photographs": 2, "batch_sizes": "2",
        "precisions": "float32", "prompts": "none", "timesteps": 2, "rounds": 1, "device": "cpu",
        "run_name": "by_07",
    }  # fmt: skip
    result = papermill(tmp_path, "07_benchmark", **options)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Unable to parse" not in result.stderr
    run = find_run("by_07")
    assert run.summary()["status"] == "completed"
    stages = pd.read_csv(run.path / "stages.csv")
    assert len(stages) == 8
    assert stages.loc[stages["stage"] == "U-Net", "operations"].item() > 1e8
    ratios = pd.read_csv(run.path / "ratios.csv").set_index("what")["ratio"]
    assert len(ratios) == 5
    assert ratios["score again, latents known"] > 1  # it does strictly less
    figures, text = _shown(tmp_path)
    assert figures == len(list(run.figures.iterdir())) == 3
    assert "compile is off" in text


def test_08_compares_components(small_folder, tmp_path):
    options = {
        **QUICK,
        "data_root": "photos",
        "max_steps": 1,
        "run_name": "by_08",
        "train_fraction": 0.5,
    }
    options |= {"variants": "whole,random weights", "seeds": 2}
    result = papermill(tmp_path, "08_components", **options)
    assert result.returncode == 0, result.stderr[-3000:]
    run = find_run("by_08")
    assert {path.stem for path in run.figures.iterdir()} == {"components", "levels"}
    table = pd.read_csv(run.path / "components.csv")
    assert list(table["variant"]) == ["whole", "random weights"]
    assert list(table["seeds"]) == [2, 2]
    figures, text = _shown(tmp_path)
    assert figures == 2
    assert "50% of the train and val photographs" in text


@pytest.mark.slow
def test_00_trains_a_prior_and_shows_it(pictures_folder, tmp_path):
    options = {
        "views": 1,
        "vae_steps": 2,
        "decoder_steps": 1,
        "adapter_steps": 2,
        "unet_steps": 2,
        "unet_batch": 2,
        "validate_every": 2,
    }
    result = papermill(
        tmp_path, "00_pretrain_prior", photographs=pictures_folder, run_name="by_00", **options
    )
    assert result.returncode == 0, result.stderr[-3000:]
    run = find_run("by_00")
    assert run.summary()["status"] == "completed"
    assert {path.stem for path in run.figures.iterdir()} == {
        "vae_curve", "unet_curve", "reconstructions", "samples", "probe",
    }  # fmt: skip
    assert (run.path / "model" / "unet" / "diffusion_pytorch_model.safetensors").is_file()


@pytest.mark.slow
def test_03_killed_three_times_ends_with_the_same_bytes(tmp_path, small_folder):
    """On the real photographs where they are here; at 64x64, where a step takes no time."""
    real = {"dataset": "biq2021", "data_root": BIQ}
    data = real if BIQ.is_dir() else {"dataset": "folder", "data_root": small_folder}
    options = {**QUICK, **data, "max_steps": 24, "mos_range": None if BIQ.is_dir() else "0,100"}
    whole = papermill(tmp_path, **options, run_name="undisturbed")
    assert whole.returncode == 0, whole.stderr[-3000:]
    run = find_run("undisturbed")
    metrics = run.path.with_name("killed") / "metrics.jsonl"
    rng = np.random.default_rng(0)
    for _ in range(3):
        child = subprocess.Popen(
            command(**options, run_name="killed"), cwd=tmp_path, env=os.environ,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        before = metrics.read_text().count("\n") if metrics.exists() else 0
        wanted = before + int(rng.integers(1, 4))
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and child.poll() is None:
            if metrics.exists() and metrics.read_text().count("\n") >= wanted:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        assert child.poll() is None, "it ended before it was killed"
        # As a power cut: papermill, and the kernel that holds the run, in a session of its own.
        os.kill(int((metrics.parent / ".holder").read_text().split()[1]), signal.SIGKILL)
        child.kill()
        child.wait()
    last = papermill(tmp_path, **options, run_name="killed")
    assert last.returncode == 0, last.stderr[-3000:]
    assert "resumed killed at step" in (tmp_path / "out.ipynb").read_text()
    killed = find_run("killed")
    for name in ("checkpoints/best.safetensors", "checkpoints/last.safetensors", "predictions.csv"):
        assert (killed.path / name).read_bytes() == (run.path / name).read_bytes(), name


@pytest.mark.parametrize("place", ["home", "wheel", "repository"])
def test_demo_finds_its_notebook_wherever_the_lab_keeps_things(tmp_path, monkeypatch, place):
    """Its own copy under DPIQA_HOME, the wheel's, or the repository's; in this order."""
    package = tmp_path / "site" / "dpiqa_lab"
    folders = {
        "home": tmp_path / "home" / "notebooks",
        "wheel": package / "data" / "notebooks",
        "repository": tmp_path / "site" / "notebooks",
    }
    for name in list(folders)[list(folders).index(place) :]:
        folders[name].mkdir(parents=True)
        (folders[name] / "03_train.ipynb").touch()
    monkeypatch.setattr("dpiqa_lab.core.paths._PACKAGE", package)
    monkeypatch.setenv("DPIQA_HOME", str(tmp_path / "home"))
    ran = []

    def run_notebook(notebook, output, **parameters):
        ran.append(notebook)
        raise LabError("enough")

    monkeypatch.setattr("dpiqa_lab.automation.notebook_runner.run_notebook", run_notebook)
    assert main(["demo"]) == 2
    assert ran == [folders[place] / "03_train.ipynb"]


def test_a_notebook_that_is_nowhere_is_named():
    with pytest.raises(LabError, match=r"no notebook 99_none\.ipynb in .*notebooks"):
        notebook_path("99_none")
    assert notebook_path("03_train") == REPOSITORY / "notebooks" / "03_train.ipynb"
