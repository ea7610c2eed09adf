"""Every kind of run, asked for again after what went into it has changed: refused, untouched."""

import contextlib
import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import dpiqa_lab as lab
from dpiqa_lab.core.files import write_json
from dpiqa_lab.core.paths import runs_dir
from dpiqa_lab.core.runs import find_run
from tests.conftest import photographs
from tests.support.api import public_names

pytestmark = pytest.mark.medium

FOLDER = {
    "dataset": "folder", "labels": "scores.csv", "mos_range": "0,100", "device": "cpu",
    "image_size": 64,
}  # fmt: skip
TRAINED = {
    **FOLDER, "backbone": "tiny", "decoder_width": 8, "batch_size": 4, "max_steps": 1,
    "precision": "float32", "trainable": "decoder",
}  # fmt: skip
PROBED = {
    **FOLDER, "backbone": "tiny", "timesteps": 1, "taps": "mid_block", "splits": 2,
    "precision": "float32",
}  # fmt: skip
STUDENT = {
    **FOLDER, "trunk": "efficientnet_tiny", "student_width": 8, "batch_size": 6, "max_steps": 1,
    "precision": "float32", "statistics_weight": 0.0, "correction": False,
}  # fmt: skip
PEER = {
    **FOLDER, "trunk": "resnet_tiny", "crop_size": 32, "precision": "float32", "validate_every": 1,
}  # fmt: skip
PRIOR = {
    "views": 1, "vae_steps": 1, "vae_linear": 1, "vae_batch": 2, "vae_crop": 64, "decoder_steps": 1,
    "adapter_steps": 1, "adapter_batch": 2, "unet_steps": 1, "unet_batch": 2, "validate_every": 1,
    "workers": 0, "device": "cpu", "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Photographs, their scores, a split, and prompts, which the tests change and put back."""
    root = tmp_path_factory.mktemp("inputs")
    table = photographs(root, 24)
    table.to_csv(root / "scores.csv", index=False)
    splits = ["train"] * 14 + ["val"] * 5 + ["test"] * 5
    table.assign(split=splits)[["name", "split"]].to_csv(root / "split.csv", index=False)
    (root / "prompts.txt").write_text("a bad photo\na good photo\n")
    rng = np.random.default_rng(0)
    (root / "large").mkdir()
    for i in range(41):
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        small.resize((256, 256)).save(root / "large" / f"{i:02d}.png")
    _student("start")(root)
    return root


def _named(config_class: str, run: str, given: dict, **more) -> Callable[[str], Callable]:
    """``make(name)(root)`` gives the run of that name."""

    def make(name):
        def call(root):
            values = {
                **given,
                **more,
                "data_root": str(root),
                "split_scheme": str(root / "split.csv"),
            }
            if "prompts" in more:
                values["prompts"] = str(root / more["prompts"])
            if name is not None:
                values["run_name"] = name
            names = public_names()
            return names[run](names[config_class].from_parameters(values))

        return call

    return make


def _prior(name):
    def call(root):
        given = {**PRIOR, "photographs": str(root / "large"), "run_name": name}
        return lab.experiments.train_prior(lab.experiments.PriorConfig.from_parameters(given))

    return call


def _benchmark(name):
    def call(root):
        given = {
            "student": "efficientnet_tiny", "image_size": 64, "photographs": 1, "batch_sizes": 1,
            "precisions": "float32", "timesteps": 1, "training": False, "rounds": 1,
            "device": "cpu", "prompts": str(root / "prompts.txt"), "run_name": name,
        }  # fmt: skip
        return lab.experiments.run_benchmark(lab.experiments.BenchmarkConfig.from_parameters(given))

    return call


def _evaluation(name):
    def call(root):
        given = {
            "models": "ridge_on_statistics,start", "datasets": "folder", "data_roots": str(root),
            "labels": "scores.csv", "mos_range": "0,100", "image_size": 64, "robustness": 0,
            "resamples": 2,
            "split_scheme": str(root / "split.csv"), "device": "cpu", "run_name": name,
        }  # fmt: skip
        return lab.evaluation.run_evaluation(lab.EvaluateConfig.from_parameters(given))

    return call


def _protocol(name):
    def call(root):
        given = {**TRAINED, "prompts": str(root / "prompts.txt"), "data_root": str(root)}
        given |= {"split_scheme": str(root / "split.csv"), "run_name": name}
        lab.evaluation.run_protocol(lab.TrainConfig.from_parameters(given), 1)
        return find_run(f"{name}-protocol-1")

    return call


_student = _named("DistillConfig", "train_student", STUDENT)
PROMPTS = {"prompts": "prompts.txt"}
KINDS = {
    "teacher": _named("TrainConfig", "train_teacher", TRAINED, **PROMPTS),
    "student": _named("DistillConfig", "train_student", STUDENT, start_from="start"),
    "pmt_iqa": _named(
        "training.PmtIqaConfig",
        "training.train_pmt_iqa",
        {**PEER, "epochs": 1, "batch_size": 8},
    ),
    "quality_encoder": _named(
        "training.QualityEncoderConfig",
        "training.train_quality_encoder",
        {**PEER, "steps": 1, "scenes": 2},
    ),
    "prior": _prior,
    "probe": _named("ProbeConfig", "probing.run_probe", PROBED, **PROMPTS),
    "ablation": _named(
        "AblationConfig",
        "experiments.run_ablation",
        {**PROBED, "random_init_control": False},
        **PROMPTS,
    ),
    "components": _named(
        "experiments.ComponentsConfig",
        "experiments.run_components",
        {**TRAINED, "variants": "whole", "seeds": 1},
        **PROMPTS,
    ),
    "distillation": _named(
        "experiments.DistillationConfig",
        "experiments.run_distillation",
        {**STUDENT, "variants": "labels"},
        teacher="start",
    ),
    "evaluation": _evaluation,
    "protocol": _protocol,
    "benchmark": _benchmark,
}  # fmt: skip
ALL = set(KINDS) - {"benchmark"}
RATED = ALL - {"prior"}
PROMPTED = {"teacher", "probe", "ablation", "components", "protocol", "benchmark"}
STARTED = {"student", "distillation", "evaluation"}


def _label(root):
    table = pd.read_csv(root / "scores.csv")
    table.loc[3, "mos"] += 0.001
    table.to_csv(root / "scores.csv", index=False)


def _row(root):
    pd.read_csv(root / "scores.csv").iloc[:-1].to_csv(root / "scores.csv", index=False)
    (root / "large" / "07.png").unlink()


def _pixel(root):
    for path in (root / "p003.png", root / "large" / "03.png"):
        pixels = np.array(Image.open(path))
        pixels[5, 5, 0] ^= 1
        Image.fromarray(pixels).save(path)


def _split(root):
    table = pd.read_csv(root / "split.csv")
    table.loc[[0, 23], "split"] = ["test", "train"]
    table.to_csv(root / "split.csv", index=False)


def _prompt(root):
    (root / "prompts.txt").write_text("a bad photo\na great photo\n")


def _weights(root):
    path = runs_dir() / "start" / "checkpoints" / "best.safetensors"
    state = load_file(path)
    name = next(name for name, value in state.items() if value.ndim == 4)
    state[name][0, 0, 0, 0] += 1e-3
    save_file(state, path)


CHANGES = {
    "a label": (_label, RATED, "1 of 24 scores differ"),
    "a pixel": (_pixel, ALL, "photographs have changed content"),
    "a row": (_row, ALL, "1 photographs removed"),
    "the split file": (_split, RATED, "changed: 2 photographs are in another split"),
    "the prompts": (_prompt, PROMPTED, "prompts differs"),
    "the start's weights": (_weights, STARTED, "differs"),
}


def _of(kind, *others):
    """A case of a kind of run; those whose runs take long are for ``make test-all``."""
    slow = kind in ("prior", "distillation", "benchmark", "components")
    return pytest.param(kind, *others, marks=[pytest.mark.slow] if slow else [])


@contextlib.contextmanager
def _changed(root, change):
    """The inputs after ``change``; afterwards as before."""
    kept = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    start = runs_dir() / "start"
    kept |= {p: p.read_bytes() for p in start.rglob("*") if p.is_file()}
    change(root)
    try:
        yield
    finally:
        for path, content in kept.items():
            if not path.is_file() or path.read_bytes() != content:
                path.write_bytes(content)


def _bytes(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def completed(root):
    """``completed(kind)``: how to ask for a run of that kind, and the run, made once."""

    @functools.cache
    def of(kind):
        make = KINDS[kind](f"of-{kind}")
        return make, make(root)

    return of


@pytest.mark.parametrize("kind", [_of(kind) for kind in KINDS])
def test_the_same_inputs_are_reused(completed, kind, root, capsys):
    make, run = completed(kind)
    before = _bytes(run.path)
    assert make(root).path == run.path
    assert "reused" in capsys.readouterr().out
    assert _bytes(run.path) == before


@pytest.mark.parametrize(
    ("kind", "what"),
    [_of(kind, what) for kind in KINDS for what in CHANGES if kind in CHANGES[what][1]],
)
@pytest.mark.parametrize("state", ["completed", "interrupted"])
def test_changed_inputs_are_refused_in_words_and_the_run_stays_as_it_was(
    completed, kind, root, what, state
):
    make, run = completed(kind)
    change, _, words = CHANGES[what]
    summary = (run.path / "summary.json").read_bytes()
    if state == "interrupted":
        write_json(run.path / "summary.json", {**run.summary(), "status": "running"})
    before = _bytes(run.path)
    try:
        with _changed(root, change), pytest.raises(lab.LabError, match=words):
            make(root)
        assert _bytes(run.path) == before
    finally:
        (run.path / "summary.json").write_bytes(summary)


def test_without_a_name_changed_inputs_are_a_new_run(root, capsys):
    make = KINDS["teacher"](None)
    first = make(root)
    before = _bytes(first.path)
    with _changed(root, _label):
        second = make(root)
        assert "1 of 24 scores differ" in capsys.readouterr().out
        assert make(root).path == second.path != first.path
    assert _bytes(first.path) == before
    assert make(root).path == first.path


def test_another_dataset_under_the_same_name_is_refused(completed):
    """As two folds, by hand: ``train_teacher(config, dataset=fold)``."""
    _, run = completed("teacher")
    config = lab.TrainConfig(**run.config, run_name=run.name)
    before = _bytes(run.path)
    with pytest.raises(lab.LabError, match="4 photographs removed"):
        lab.train_teacher(config, config.load_dataset().sample(20))
    assert _bytes(run.path) == before


def test_a_configuration_that_is_not_resolved_is_taken(completed, root):
    _, run = completed("student")
    given = {**STUDENT, "data_root": str(root), "split_scheme": str(root / "split.csv")}
    config = lab.DistillConfig(**given, start_from="start", run_name=run.name)
    assert lab.train_student(config).path == run.path


def test_a_sweep_of_completed_runs_is_refused_where_their_inputs_changed(root, tmp_path):
    from dpiqa_lab.automation.changed_inputs import changed_inputs

    run = KINDS["teacher"]("of-a-sweep")(root)
    assert changed_inputs(run) == []
    path = run.path / "config.json"
    write_json(path, {**run.config, "processes": 2})
    assert changed_inputs(find_run(run.path)) == []
    write_json(path, run.config)
    with _changed(root, _label):
        (said,) = changed_inputs(run)
    assert "1 of 24 scores differ" in said
    with _changed(root, _prompt):
        (said,) = changed_inputs(run)
    assert said.startswith("prompts differs")
    shutil.rmtree(run.path)
