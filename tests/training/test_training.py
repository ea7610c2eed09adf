import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import dpiqa_lab as lab
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.core.paths import runs_dir
from dpiqa_lab.core.runs import find_run
from dpiqa_lab.diffusion.presets import find_preset
from dpiqa_lab.models.image_adapter import ImageAdapter, load_image_adapter
from dpiqa_lab.training.batches import StepBatches
from dpiqa_lab.training.checkpoints import load_checkpoint, save_checkpoint
from dpiqa_lab.training.learning_rates import parameter_groups
from dpiqa_lab.training.loop import Schedule
from dpiqa_lab.training.losses import correlation, margin_ranking, score_loss
from dpiqa_lab.training.teacher_run import load_adapter
from tests.support.configs import QUICK

pytestmark = pytest.mark.medium

TRAINED = {"max_steps": 4, "precision": "float32", "random_weights": True}


def _config(root, **options):
    return lab.TrainConfig.from_parameters({**QUICK, "data_root": str(root), **options})


def test_margin_ranking_by_hand():
    mos = torch.tensor([0.0, 1.0])  # deviation 0.5, margin 0.125
    assert margin_ranking(torch.tensor([0.0, 1.0]), mos) == 0
    assert margin_ranking(torch.tensor([0.0, 0.0]), mos) == pytest.approx(0.125)
    assert margin_ranking(torch.tensor([1.0, 0.0]), mos) == pytest.approx(1.125)
    assert margin_ranking(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])) == 0


def test_margin_ranking_equals_its_plain_loop():
    generator = torch.Generator().manual_seed(0)
    score, mos = torch.rand(9, generator=generator), torch.rand(9, generator=generator)
    margin = 0.25 * mos.std(correction=0).item()
    terms = [
        max(0.0, margin - (score[i] - score[j]).item())
        for i in range(9)
        for j in range(9)
        if mos[i] > mos[j]
    ]
    assert margin_ranking(score, mos).item() == pytest.approx(np.mean(terms), rel=1e-5)
    expected = ((score - mos) ** 2).mean() + 0.5 * margin_ranking(score, mos)
    assert score_loss(score, mos, 0.5) == pytest.approx(expected.item())


def test_correlation_loss_is_half_of_one_minus_plcc():
    generator = torch.Generator().manual_seed(0)
    score, mos = torch.rand(9, generator=generator), torch.rand(9, generator=generator)
    assert correlation(score, mos).item() == pytest.approx(
        (1 - lab.metrics.plcc(score, mos)) / 2, abs=1e-6
    )
    assert correlation(3 * mos + 7, mos).item() == pytest.approx(0, abs=1e-5)
    assert correlation(torch.zeros(3), torch.arange(3.0)).item() == 0.5
    expected = ((score - mos) ** 2).mean() + 2 * correlation(score, mos)
    assert score_loss(score, mos, 0.0, 2.0) == pytest.approx(expected.item())


def test_schedule_of_the_paper():
    schedule = Schedule(steps_per_epoch=10, epochs=30, learning_rate=1e-5, lr_milestones=(5, 10))
    assert schedule.total_steps == 300
    rates = [schedule.rate(step) for step in (0, 49, 50, 99, 100)]
    assert rates == pytest.approx([1e-5, 1e-5, 2e-6, 2e-6, 4e-7])
    assert [s for s in range(1, 301) if schedule.due(s)] == [250, 300]


def test_rates_by_layer():
    weight, bias = torch.nn.Parameter(torch.zeros(2, 5, 20, 20)), torch.nn.Parameter(torch.zeros(2))
    scales = {g["scale"]: g["params"] for g in parameter_groups([weight, bias], "fan_in")}
    assert scales[0.5][0] is weight
    assert scales[1.0][0] is bias
    assert [g["scale"] for g in parameter_groups([weight, bias], "uniform")] == [1.0]


def test_order_is_a_function_of_seed_and_epoch_and_can_start_anywhere():
    data = list(range(10))
    steps = StepBatches(data, batch_size=2, accumulation=2, seed=1, workers=0)
    assert len(steps) == 3
    flat = [[b.tolist() for b in step] for step in steps.epoch(0)]
    assert sorted(i for step in flat for batch in step for i in batch) == data
    assert [len(step) for step in flat] == [2, 2, 1]
    assert [[b.tolist() for b in step] for step in steps.epoch(0, start=1)] == flat[1:]
    assert [[b.tolist() for b in step] for step in steps.epoch(1)] != flat


def _train_a_little(layer, optimizer, steps):
    for i in range(steps):
        optimizer.zero_grad()
        (layer(torch.full((1, 3), float(i + 1))) ** 2).sum().backward()
        optimizer.step()


def _layer_and_adam():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    return layer, torch.optim.Adam(layer.parameters(), lr=0.1)


def test_checkpoints_bring_back_weights_and_optimiser(tmp_path):
    layer, adam = _layer_and_adam()
    _train_a_little(layer, adam, 3)
    save_checkpoint(tmp_path, 3, layer.state_dict(), adam, {"best": None})
    _train_a_little(layer, adam, 2)
    other, fresh = _layer_and_adam()
    weights, state = load_checkpoint(tmp_path, fresh)
    other.load_state_dict(weights)
    assert state["step"] == 3
    _train_a_little(other, fresh, 2)
    assert torch.equal(layer.weight, other.weight)


def test_a_damaged_checkpoint_is_told_and_the_one_before_used(tmp_path):
    layer, adam = _layer_and_adam()
    for step in (1, 2, 3):
        _train_a_little(layer, adam, 1)
        save_checkpoint(tmp_path, step, layer.state_dict(), adam, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    path = tmp_path / "step-00000003" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    said = []
    _, state = load_checkpoint(tmp_path, adam, said.append)
    assert state["step"] == 2
    assert "step-00000003 is damaged" in said[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from tests.conftest import photographs

    root = tmp_path_factory.mktemp("data") / "photos"
    photographs(root, 30).to_csv(root / "scores.csv", index=False)
    run = lab.train_teacher(_config(root, run_name="trained", **TRAINED))
    return root, run


def test_a_run_folder_holds_what_it_promises(trained):
    _, run = trained
    summary = run.summary()
    assert summary["status"] == "completed"
    assert summary["steps"] == 4
    assert set(summary["metrics"]) == {"val", "test"}
    test = summary["metrics"]["test"]
    assert {"n", "srcc", "plcc", "plcc_logistic", "krcc", "rmse", "srcc_ci"} <= set(test)
    assert test["n"] == 6
    assert any("RANDOM" in note for note in summary["notes"])
    predictions = run.predictions()
    assert list(predictions)[:4] == ["name", "mos", "score", "split"]
    chosen = predictions[predictions["split"] == "test"]
    assert test["srcc"] == pytest.approx(lab.metrics.srcc(chosen["score"], chosen["mos"]))
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert run.history()["step"].tolist() == [0, 2, 4]  # as the start is a fitted one
    assert [len(losses) for losses in run.history()["losses"]] == [0, 2, 2]
    names = {p.name for p in run.checkpoints.iterdir()}
    assert names == {"best.safetensors", "last.safetensors"}


def test_the_loaded_model_scores_as_the_run_did(trained):
    root, run = trained
    model = lab.load_model("trained")
    table = run.predictions()
    scores = model.score([root / name for name in table["name"]], device="cpu")
    assert np.allclose(scores, table["score"], atol=1e-5)
    again = lab.load_model(run.path).score([root / table["name"][0]], device="cpu")
    assert again[0] == pytest.approx(scores[0], rel=1e-5, abs=1e-5)


def test_a_completed_run_is_reused_and_other_parameters_refused(trained, capsys):
    root, run = trained
    before = (run.path / "summary.json").read_bytes()
    again = lab.train_teacher(_config(root, run_name="trained", **TRAINED))
    assert again.state == "completed"
    assert "reused" in capsys.readouterr().out
    with pytest.raises(
        lab.LabError, match=r"other parameters(.|\n)*max_steps: 4 in the run, 5 requested"
    ):
        lab.train_teacher(_config(root, run_name="trained", **{**TRAINED, "max_steps": 5}))
    assert (run.path / "summary.json").read_bytes() == before


def test_a_run_that_failed_before_its_first_step_gives_way(trained):
    root, _ = trained
    options = {"max_steps": 2, "run_name": "mended", "precision": "float32", "start": "torch"}
    with pytest.raises(lab.LabError, match="no folder"):
        lab.train_teacher(_config(root / "nowhere", **options))
    assert not (runs_dir() / "mended").exists()
    with pytest.raises(lab.LabError, match="loss became"):
        lab.train_teacher(_config(root, learning_rate=1e30, **options))
    assert find_run("mended").summary()["status"] == "failed"
    assert lab.train_teacher(_config(root, **options)).summary()["status"] == "completed"


def test_missing_runs_are_named(trained):
    with pytest.raises(lab.LabError, match=r"unknown run 'traind'\. Did you mean 'trained'"):
        lab.load_model("traind")
    assert "trained" in set(lab.list_runs()["name"])


def test_accumulated_batches_equal_one_large_batch(trained):
    root, _ = trained
    # The correlation is over a batch, not over a step: it has no such equality.
    options = {"max_steps": 2, "precision": "float32", "start": "torch", "correlation_weight": 0.0}
    large = lab.train_teacher(_config(root, batch_size=4, **options))
    small = lab.train_teacher(_config(root, batch_size=2, accumulation_steps=2, **options))
    a, b = (load_file(r.checkpoints / "last.safetensors") for r in (large, small))
    assert max((a[k] - b[k]).abs().max().item() for k in a) < 2e-4


def test_gradient_checkpointing_changes_nothing(trained):
    root, _ = trained
    options = {"max_steps": 2, "precision": "float32"}
    plain = lab.train_teacher(_config(root, **options))
    saving = lab.train_teacher(_config(root, gradient_checkpointing=True, **options))
    losses = [np.concatenate(r.history()["losses"]) for r in (plain, saving)]
    assert np.allclose(*losses, rtol=1e-4)


def test_a_compiled_training_compiles_and_says_so(trained, monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda forward, dynamic: calls.append(forward) or forward)
    root, _ = trained
    options = {"max_steps": 2, "precision": "float32"}
    plain = lab.train_teacher(_config(root, **options))
    assert not calls
    compiled = lab.train_teacher(_config(root, compile=True, **options))
    assert calls
    losses = [np.concatenate(r.history()["losses"]) for r in (plain, compiled)]
    assert np.allclose(*losses, rtol=1e-4)
    assert compiled.config["compile"] is True
    assert plain.config["compile"] is False


def test_all_but_the_backbone_is_kept_where_only_the_decoder_is_trained(trained):
    root, _ = trained
    run = lab.train_teacher(
        _config(root, max_steps=2, trainable="decoder", ranking_weight=1.0, precision="float32")
    )
    weights = load_file(run.checkpoints / "best.safetensors")
    parts = {name.split(".")[0] for name in weights}
    kept = {"quality_feature_decoder", "image_adapter", "text_adapter", "prompt_embeddings"}
    assert parts == kept
    shipped = load_image_adapter(find_preset("tiny").source)
    assert all(torch.equal(weights[f"image_adapter.{k}"], shipped[k]) for k in shipped)
    table = run.predictions()
    scores = lab.load_model(run.path).score([root / name for name in table["name"]], device="cpu")
    assert np.allclose(scores, table["score"], atol=1e-5)


def test_a_model_trained_by_lora_loads_and_scores(trained):
    root, _ = trained
    run = lab.train_teacher(
        _config(root, max_steps=2, trainable="lora", lora_rank=2, learning_rate=1e-2)
    )
    weights = load_file(run.checkpoints / "last.safetensors")
    assert any("lora_B" in name and value.abs().sum() > 0 for name, value in weights.items())
    row = run.predictions().iloc[0]
    score = lab.load_model(run.path).score([root / row["name"]])
    assert score[0] == pytest.approx(row["score"], rel=0.05, abs=0.02)


def test_each_dataset_has_the_paper_s_milestones():
    def milestones(dataset, **options):
        return lab.TrainConfig.from_parameters({"dataset": dataset, "backbone": "tiny", **options})

    assert milestones("koniq").lr_milestones == (5,)
    assert milestones("clive", keep_training_images=True).lr_milestones == (10,)
    assert milestones("livefb").lr_milestones == (2,)
    assert milestones("spaq").lr_milestones == (5,)
    assert milestones("koniq", lr_milestones="3,7").lr_milestones == (3, 7)


def test_the_official_recipe_says_what_it_does(trained):
    root, _ = trained
    run = lab.train_teacher(_config(root, max_steps=2, recipe="official"))
    notes = " ".join(run.summary()["notes"])
    assert "CHOSEN ON THE TEST PART" in notes
    assert "[0,1]" in notes
    assert run.config["select_on"] == "test"


def test_a_loss_that_is_not_finite_stops_with_the_step_named(trained):
    root, _ = trained
    config = _config(root, max_steps=6, learning_rate=1e30, precision="float32", run_name="wild")
    with pytest.raises(lab.LabError, match=r"loss became (nan|inf) at step \d+ of wild"):
        lab.train_teacher(config)
    assert find_run("wild").summary()["status"] == "failed"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "konik"}, "unknown dataset 'konik'.*'koniq'"),
        ({"latents": "sample"}, "no posterior"),
        ({"run_name": "../x"}, "plain folder name"),
        ({"run_name": "a/b"}, "plain folder name"),
        ({"device": "tpu"}, "unknown device"),
        ({"timestep": 1000}, "timestep must be between 0 and 999"),
    ],
)
def test_impossible_configs(values, message):
    with pytest.raises(lab.LabError, match=message):
        lab.TrainConfig.from_parameters({"backbone": "tiny", **values})


def test_auto_is_tiny_without_a_gpu(capsys):
    config = lab.TrainConfig.from_parameters({"device": "cpu"})
    assert "backbone auto: tiny (no GPU here" in capsys.readouterr().out
    assert config.backbone == "tiny"
    assert config.prompts == "merged"
    assert str(choose_compute("cpu", "float32")) == "cpu in float32 (as asked)"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("prior", "pooled")),
        ({"random_weights": True}, ("frequencies", "pooled")),
        ({"start": "torch"}, ("torch", "pooled")),
        ({"backbone": "sd15"}, ("torch", "flat")),
    ],
)
def test_what_an_adapter_starts_as_follows_from_the_backbone(options, expected):
    config = lab.TrainConfig.from_parameters({"dataset": "demo", "backbone": "tiny", **options})
    assert (config.adapter_start, config.decoder_head) == expected


def test_an_adapter_starts_as_the_priors_or_as_a_students_trunk(small_folder, tmp_path):
    source = find_preset("tiny").source
    shipped = load_image_adapter(source)
    adapter = ImageAdapter([48, 96, 128, 128])
    load_adapter(adapter, "prior", source)
    assert all(torch.equal(value, shipped[name]) for name, value in adapter.state_dict().items())
    with pytest.raises(lab.LabError, match="no image adapter can be read from"):
        load_adapter(adapter, "prior", str(tmp_path))
    with pytest.raises(lab.LabError, match=r"does not fit this U-Net:\n.*conv_in"):
        load_adapter(ImageAdapter([32, 96, 128, 128]), "prior", source)
    options = {
        "dataset": "folder", "data_root": str(small_folder), "mos_range": "0,100", "max_steps": 1,
        "image_size": 64, "student_width": 4, "batch_size": 2, "validate_every": 1, "device": "cpu",
    }  # fmt: skip
    for trunk in ("frequency", "efficientnet_tiny"):
        values = {**options, "trunk": trunk, "run_name": f"starts-{trunk}"}
        lab.train_student(lab.DistillConfig.from_parameters(values))
    load_adapter(adapter, "starts-frequency", source)
    trunk = lab.load_model("starts-frequency", weights="last").trunk.stages.state_dict()
    assert all(torch.equal(value, trunk[name]) for name, value in adapter.state_dict().items())
    with pytest.raises(lab.LabError, match="trained with trunk='frequency', this one has 'effi"):
        load_adapter(adapter, "starts-efficientnet_tiny", source)
