"""What is not finite stops a training by name, and what is undefined is said to be."""

import contextlib
import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import dpiqa_lab as lab
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.identity import Identity
from dpiqa_lab.core.runs import find_run, open_run
from dpiqa_lab.training import loop
from dpiqa_lab.training.loop import Schedule, fit
from dpiqa_lab.viz.figures import predicted_against_mos, training_curves
from tests.support.networks import CPU, Small


def _fit(task, name, root, **options):
    given = {"learning_rate": 0.1, "validate_every": 2, **options}
    with open_run(name, Identity({}), CPU, root=root) as run:
        return run, fit(run, task, Schedule(steps_per_epoch=12, epochs=1, **given), CPU)


SPOILT = {
    "nan": (lambda loss, output: loss * float("nan"), "the loss became nan"),
    "inf": (lambda loss, output: loss + float("inf"), "the loss became inf"),
    # 0 itself, with a slope that is not finite.
    "gradient": (lambda loss, output: loss + (output - output).sqrt().sum(), "gradient is not"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_step_photographs_and_last_good_checkpoint_are_named(kind, tmp_path):
    spoil, said = SPOILT[kind]
    with pytest.raises(
        LabError, match=rf"{said}(.|\n)*at step 5 of small(.|\n)*p05-b\.png(.|\n)*Checkpoint 4 is"
    ) as raised:
        _fit(Small(spoil), "small", tmp_path)
    # A loss is of its batch, a gradient of all batches of the step.
    assert ("p05-a.png" in str(raised.value)) == (kind == "gradient")
    run = find_run("small", tmp_path)
    assert run.summary()["status"] == "failed"
    assert sorted(p.name for p in run.checkpoints.glob("step-*")) == [
        "step-00000002", "step-00000004",
    ]  # fmt: skip
    kept = load_file(run.checkpoints / "step-00000004" / "weights.safetensors")
    assert np.isfinite(kept["weight"].item())
    # Without what spoilt it the run goes on from there, and ends as if nothing had been.
    resumed, _ = _fit(Small(), "small", tmp_path)
    plain, _ = _fit(Small(), "plain", tmp_path)
    assert resumed.history()["losses"].tolist() == plain.history()["losses"].tolist()


def test_weights_that_are_not_finite_are_never_kept(tmp_path):
    # The losses and gradients of two steps are finite, what they make of the weight is not.
    with pytest.raises(LabError, match=r"weight is not finite at step 1 of far\. No checkpoint"):
        _fit(Small(), "far", tmp_path, learning_rate=1e39, validate_every=1)
    assert not list(find_run("far", tmp_path).checkpoints.glob("*"))


def test_float16_on_a_cpu_is_refused_in_words(tmp_path):
    half = choose_compute("cpu", "float16")
    with (
        pytest.raises(LabError, match=r"float16' cannot train on a CPU(.|\n)*bfloat16"),
        open_run("half", Identity({}), half, root=tmp_path) as run,
    ):
        fit(run, Small(), Schedule(1, 1, 0.1), half)


class Scaled:
    """accelerate's accelerator as it is on CUDA in float16, on torch's scaler for the CPU."""

    def __init__(self, accelerator):
        self.accelerator = accelerator  # wrapped optimisers look for one
        self.num_processes = 1
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)

    def prepare(self, network, optimizer):
        from accelerate.optimizer import AcceleratedOptimizer

        return network, AcceleratedOptimizer(optimizer, device_placement=False, scaler=self.scaler)

    def no_sync(self, model):
        return contextlib.nullcontext()

    def backward(self, loss):
        self.scaler.scale(loss).backward()

    def unwrap_model(self, model, keep_fp32_wrapper):
        return model


def test_a_step_that_overflows_is_left_out_and_a_resumed_run_scales_as_before(
    tmp_path, monkeypatch
):
    made = []
    plainly = loop.accelerator_for

    def scaled(compute):
        made.append(Scaled(plainly(compute)))
        return made[-1]

    monkeypatch.setattr(loop, "accelerator_for", scaled)
    overflow = lambda loss, output: loss * 1e37  # noqa: E731 - finite, times the scale it is not
    _fit(Small(overflow), "whole", tmp_path)
    assert made[0].scaler.get_scale() == 2.0**7
    losses = np.concatenate(find_run("whole", tmp_path).history()["losses"])
    assert np.isfinite(losses).all()
    assert losses[4] > 1e30  # the loss of the step that was left out
    assert losses[5] < losses[3]  # the weight stayed as the fourth step left it, and moved on
    stopping = Small(overflow, at="p05-b.png")
    plain = stopping.loss

    def stop(model, batch):
        if batch[0][0] == "p08-a.png":
            raise KeyboardInterrupt
        return plain(model, batch)

    stopping.loss = stop
    with pytest.raises(KeyboardInterrupt):
        _fit(stopping, "stopped", tmp_path)
    _fit(Small(overflow), "stopped", tmp_path)
    assert made[2].scaler.get_scale() == 2.0**7
    runs = [find_run(name, tmp_path) for name in ("whole", "stopped")]
    one, other = (load_file(r.checkpoints / "best.safetensors")["weight"].item() for r in runs)
    assert one == other
    always = Small()
    # 0, with a slope that no scale makes a number.
    always.loss = lambda model, batch: (6 * ((model(torch.ones(1)) - 1) * 1e38).sum(), 1)
    with pytest.raises(LabError, match=r"overflow float16 at any scale at step \d+ of always"):
        _fit(always, "always", tmp_path)


def test_best_weights_that_were_damaged_are_told_of_before_the_training_goes_on(tmp_path):
    with pytest.raises(LabError):
        _fit(Small(SPOILT["nan"][0]), "small", tmp_path)
    path = find_run("small", tmp_path).checkpoints / "best.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(LabError, match=r"best\.safetensors was damaged after it was written"):
        _fit(Small(), "small", tmp_path)


def test_a_bit_of_a_checkpoint_that_flipped_is_said_and_the_one_before_used(tmp_path, capsys):
    with pytest.raises(LabError):
        _fit(Small(SPOILT["nan"][0]), "small", tmp_path)
    newest = find_run("small", tmp_path).checkpoints / "step-00000004"
    for name in ("weights.safetensors", "optimizer.safetensors"):
        content = bytearray((newest / name).read_bytes())
        content[-1] ^= 1
        (newest / name).write_bytes(content)
    resumed, _ = _fit(Small(), "small", tmp_path)
    said = capsys.readouterr().out
    assert "checkpoint step-00000004 is damaged (weights.safetensors, optimizer.saf" in said
    assert "resumed small at step 2" in said
    plain, _ = _fit(Small(), "plain", tmp_path)
    for name in ("best", "step-00000012/weights", "step-00000012/optimizer"):
        one, other = (r.checkpoints / f"{name}.safetensors" for r in (resumed, plain))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.medium
def test_constant_predictions_are_undefined_everywhere(small_folder, monkeypatch, capsys):
    from dpiqa_lab.training.student_run import StudentTask
    from tests.support.configs import STUDENT

    plain = StudentTask.output

    def constant(self, model, *arguments):
        output = plain(self, model, *arguments)
        return output._replace(score=torch.full_like(output.score, 0.5))

    monkeypatch.setattr(StudentTask, "output", constant)
    given = {**STUDENT, "data_root": str(small_folder), "run_name": "constant", "max_steps": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no logistic is fitted, as it says
        run = lab.train_student(lab.DistillConfig.from_parameters(given))
    assert "srcc undefined (no variation), best undefined" in capsys.readouterr().out
    text = (run.path / "summary.json").read_text()
    test = json.loads(text)["metrics"]["test"]
    assert test["n"] == 6
    assert test["srcc"] is test["plcc"] is test["krcc"] is None
    assert test["rmse"] > 0
    assert "correlations on test are UNDEFINED" in " ".join(run.summary()["notes"])
    row = lab.list_runs().set_index("name").loc["constant"]
    assert np.isnan(row["test_srcc"])
    assert run.history()["val_srcc"].isna().all()
    curves = training_curves(run.history())
    assert "best SRCC" not in (curves.layout.title.text or "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        scatter = predicted_against_mos(run.predictions(), logistic=True)
    assert all("SRCC undefined, PLCC undefined" in trace.name for trace in scatter.data)
    # The rest of its weights are good: it loads and scores.
    assert np.isfinite(lab.load_model("constant").score([small_folder / "p000.png"])).all()


def test_a_constant_model_has_no_agreement_and_the_report_says_so(small_folder, capsys):
    dataset = lab.load_dataset("folder", small_folder, mos_range=(0, 100), image_size=64)
    models = {"same": lambda paths: [0.5] * len(paths), "other": lambda paths: [2.0] * len(paths)}
    config = {"robustness": 2, "resamples": 20, "device": "cpu", "shown": 2, "run_name": "same"}
    run = lab.evaluation.run_evaluation(
        lab.EvaluateConfig.from_parameters(config), models, {"mine": dataset}
    )
    results = lab.evaluation.evaluation_tables(run)["agreement"].set_index("model").loc["same"]
    assert np.isnan(
        results[["srcc", "krcc", "plcc", "plcc_logistic", "srcc_low"]].astype(float)
    ).all()
    assert results["rmse"] > 0
    assert results["error"] == ""
    page = lab.viz.write_report(run).read_text(encoding="utf-8")
    assert "undefined" in page
