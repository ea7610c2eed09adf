"""A run holds the model whose scores it reports: another process reads the same from its folder."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

import dpiqa_lab as lab
from dpiqa_lab.core.files import write_json
from dpiqa_lab.core.runs import Run
from dpiqa_lab.diffusion.presets import find_preset
from dpiqa_lab.models.official import expected_entries, official_names
from dpiqa_lab.training.checkpoints import load_weights
from dpiqa_lab.training.conversion import convert
from tests.conftest import photographs
from tests.support.held_models import in_a_new_process
from tests.support.networks import stir

pytestmark = pytest.mark.medium

SHARED = {
    "dataset": "folder", "mos_range": "0,100", "image_size": 64, "device": "cpu",
    "precision": "float32", "validate_every": 1,
}  # fmt: skip
TEACHER = {
    **SHARED, "backbone": "tiny", "decoder_width": 8, "batch_size": 4, "max_steps": 1,
    "learning_rate": 1e-4,
}  # fmt: skip
STUDENT = {**SHARED, "student_width": 8, "batch_size": 4, "max_steps": 2}
PEER = {**SHARED, "trunk": "resnet_tiny", "crop_size": 32}

TRAINABLE = ("all", "lora", "adapters", "decoder")
STARTS = ("torch", "frequencies", "prior", "frequency-student")
HEADS = ("pooled", "flat")
RECIPES = ("default", "official")
TEACHERS = [
    dict(zip(("trainable", "adapter_start", "decoder_head", "recipe"), values, strict=True))
    for values in itertools.product(TRAINABLE, STARTS, HEADS, RECIPES)
]
# Each start, head and recipe, and all that can be trained.
SOME = [
    dict(zip(("trainable", "adapter_start", "decoder_head", "recipe"), values, strict=True))
    for values in (
        ("all", "torch", "pooled", "default"),
        ("lora", "frequencies", "flat", "official"),
        ("adapters", "prior", "pooled", "official"),
        ("decoder", "frequency-student", "flat", "default"),
        ("decoder", "frequencies", "pooled", "official"),
    )
]
OTHER_TEACHERS = [
    {"trainable": trainable, **options}
    for trainable, options in zip(
        itertools.cycle(reversed(TRAINABLE)),
        (
            {"patches": 2, "image_size": 128, "adapter_start": "prior"},
            {"up_blocks": 2, "adapter_start": "frequencies"},
            {"image_adapter": False},
            {"text_adapter": False, "adapter_start": "prior"},
            {"image_adapter": False, "text_adapter": False, "start": "torch"},
            {"random_weights": True, "seed": 3},
            {"timestep": 400, "prompt_pooling": "mean", "start": "torch", "decoder_head": "flat"},
        ),
        strict=False,
    )
]
SMALL = ("efficientnet_tiny", "frequency")
POOLED = [
    {"head": "pooled", "correction": correction, "statistics_weight": weight}
    for correction in (True, False)
    for weight in (0.0, 0.1)
]
STUDENTS = [
    {"trunk": trunk, **head, "ema": ema, "normalise": normalise, "from": origin}
    for trunk, head, ema, normalise, origin in itertools.product(
        SMALL, [*POOLED, {"head": "flat"}], (0.0, 0.9), (True, False), ("none", "trunk", "run")
    )
]
OTHER_STUDENTS = [
    {"trunk": trunk, "head": head, "ema": ema, "normalise": True}
    for trunk, head, ema in (
        ("efficientnet_b0", "flat", 0.9),
        ("mobilenet_v2", "pooled", 0.0),
        ("mobilenet_v2", "flat", 0.9),
        ("convnext_tiny", "pooled", 0.0),
        ("dinov2_small", "flat", 0.0),
    )
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """12 photographs, half of them to train on, their scores, and prompts."""
    root = tmp_path_factory.mktemp("held") / "photos"
    table = photographs(root, 12)
    parts = ["train", "val", "train", "test"] * 3
    table.assign(split=parts).to_csv(root / "scores.csv", index=False)
    (root / "prompts.txt").write_text("a sharp photo\na blurred photo\na photo full of noise\n")
    return root


@pytest.fixture(scope="module")
def sources(root):
    """Runs of students that others start from, by trunk."""
    for trunk in SMALL:
        _student(root, {"trunk": trunk, "run_name": f"held-source-{trunk}"})
    return {trunk: f"held-source-{trunk}" for trunk in SMALL}


def _teacher(root, options):
    prompts = {"prompts": str(root / "prompts.txt")}
    values = {**TEACHER, "data_root": str(root), **prompts, **options}
    if values.get("adapter_start") == "frequency-student":
        values["adapter_start"] = "held-source-frequency"
    return lab.train_teacher(lab.TrainConfig.from_parameters(values))


def _student(root, options):
    values = {**STUDENT, "data_root": str(root), **options}
    origin, trunk = values.pop("from", "none"), values["trunk"]
    if origin == "trunk" and trunk == "frequency":
        values["trunk_weights"] = "prior"
    elif origin == "trunk":
        values["trunk_weights"] = str(_trunk_file(root, trunk))
    elif origin == "run" and values.get("statistics_weight"):  # as that run has
        values["start_from"] = f"held-source-{trunk}"
    return lab.train_student(lab.DistillConfig.from_parameters(values))


def _trunk_file(root, trunk):
    from safetensors.torch import save_file

    path = root.parent / f"{trunk}.safetensors"
    if not path.exists():
        state = stir(lab.Student(trunk, 64, 8, "pooled")).trunk.state_dict()
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def _reported(run: Run, root: Path, kind: str = "scores"):
    """A task for another process, and the answer that the run's own record gives."""
    table = run.predictions()
    return (kind, run.path, [root / name for name in table["name"]]), table["score"].to_numpy()


def _check(tasks, folder):
    answers = in_a_new_process([task for task, _ in tasks], folder)
    wrong = []
    for (task, expected), found in zip(tasks, answers, strict=True):
        expected, found = np.asarray(expected), np.asarray(found)
        assert expected.shape == found.shape
        apart = np.abs(found - expected).max()
        # Of scores far beyond 1, as of a start that does not suit them, the same share.
        limit = (1e-4 if task[0] == "exported" else 1e-5) * max(1, np.abs(expected).max())
        if not apart < limit:
            wrong.append(f"{task[0]} {task[1]}: {apart} of {expected}")
    assert not wrong, "\n".join(wrong)


def test_some_of_all_runs(root, sources, tmp_path):
    teachers = [_teacher(root, options) for options in [*SOME, OTHER_TEACHERS[0]]]
    students = [_student(root, options) for options in [*STUDENTS[::29], OTHER_STUDENTS[1]]]
    peers = [_pmt_iqa(root, {"crop_size": size}) for size in (32, 64)]
    runs = [*teachers, *students, *peers, _sampled(root, tmp_path)]
    # Photographs that score alike would hide a difference between models.
    assert np.median([np.ptp(run.predictions()["score"]) for run in runs]) > 0.01
    tasks = [_reported(run, root) for run in runs]
    tasks += [_reported(run, root, "exported") for run in students[:4]]
    tasks += [_encoder(root), *_shipped(students[0], root, tmp_path), *_converted(root, tmp_path)]
    # The teachers' prompts are theirs, whatever has become of the file.
    text = (root / "prompts.txt").read_text()
    (root / "prompts.txt").unlink()
    try:
        _check(tasks, tmp_path)
    finally:
        (root / "prompts.txt").write_text(text)


@pytest.mark.slow
def test_all_teachers(root, sources, tmp_path):
    _check([_reported(_teacher(root, o), root) for o in [*TEACHERS, *OTHER_TEACHERS]], tmp_path)


@pytest.mark.slow
def test_all_students(root, sources, tmp_path):
    runs = [_student(root, options) for options in [*STUDENTS, *OTHER_STUDENTS]]
    tasks = [_reported(run, root) for run in runs]
    tasks += [_reported(run, root, "exported") for run in [*runs[::7], *runs[-5:]]]
    _check(tasks, tmp_path)


def _sampled(root, folder):
    """A teacher that learnt from samples of the latents; it is judged by their mean."""
    folder = folder / "kl"
    shutil.copytree(find_preset("tiny").source, folder, ignore=shutil.ignore_patterns("vae"))
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
    ).save_pretrained(folder / "vae")  # fmt: skip
    options = {"backbone": str(folder), "trainable": "decoder", "decoder_head": "pooled"}
    options |= {"start": "calibrated", "adapter_start": "prior", "latents": "sample"}
    return _teacher(root, options)


def _pmt_iqa(root, options):
    values = {**PEER, "data_root": str(root), "epochs": 2, "batch_size": 4, **options}
    return lab.training.train_pmt_iqa(lab.training.PmtIqaConfig.from_parameters(values))


def _encoder(root):
    """A quality encoder, which gives no scores: what was measured at its best step."""
    values = {**PEER, "data_root": str(root), "steps": 2, "scenes": 4}
    run = lab.training.train_quality_encoder(
        lab.training.QualityEncoderConfig.from_parameters(values)
    )
    history = run.history()
    best = history[history["step"] == run.summary()["best_step"]].iloc[-1]
    expected = [best["val_contrastive"], best["val_found"], 1.0]
    return ("compared", run.path, [root / "p000.png"]), expected


def _shipped(run, root, folder):
    """A student as it ships, its matrices rounded to float16, and the one that is shipped."""
    paths = [root / "p000.png", root / "p011.png"]
    rounded = lab.load_model(run.path)
    with torch.no_grad():
        for value in rounded.state_dict().values():
            if value.is_floating_point() and value.ndim > 1:
                value.copy_(value.half())
    embedded = lab.load_model("embedded")
    return [
        (
            ("scores", lab.training.ship_student(run.path, folder / "shipped"), paths),
            rounded.score(paths),
        ),
        (("scores", "embedded", paths), embedded.score(paths)),
    ]


def _converted(root, home):
    """Tasks of a teacher and a student of the authors, by the scores before they were converted."""
    folder = home / "narrow"
    torch.manual_seed(0)
    UNet2DConditionModel(
        block_out_channels=(32, 64, 64, 64), cross_attention_dim=12, attention_head_dim=2
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
    ).save_pretrained(folder / "vae")  # fmt: skip
    teacher = lab.Teacher(lab.load_backbone(str(folder)), torch.randn(1, 5, 12), vae_input="[0,1]")
    paths, tasks = [root / "p000.png", root / "p011.png"], []
    given = {
        "teacher": (teacher, {"prompt_embeddings": teacher.prompt_embeddings}),
        "student": (stir(lab.Student("efficientnet_tiny")), {"trunk": "efficientnet_tiny"}),
    }
    given["teacher"][1]["backbone"] = str(folder)
    for name, (model, options) in given.items():
        own = model.state_dict()
        state = {key: torch.rand(like.shape) for key, like in expected_entries(model).items()}
        state |= {theirs: own[ours] for ours, theirs in official_names(model).items()}
        state |= {k: v.long() for k, v in state.items() if k.endswith("num_batches_tracked")}
        torch.save(state, home / f"{name}.pth")
        run = convert(home / f"{name}.pth", home / name, **options)
        # Of 512 pixels, as published; as small as the photographs costs less.
        model.image_size = 64
        write_json(run.path / "config.json", {**run.config, "image_size": 64})
        tasks.append((("scores", run.path, paths), model.score(paths, device="cpu")))
    return tasks


def _as_earlier(run: Run, folder: Path, dropped: tuple[str, ...]) -> Run:
    """A run as the last version wrote it: what was trained alone."""
    from dpiqa_lab.training.checkpoints import save_weights

    shutil.copytree(run.path, folder)
    path = folder / "checkpoints" / "best.safetensors"
    state = {k: v for k, v in load_weights(path).items() if not k.startswith(dropped)}
    save_weights(path, state)
    (folder / "identity.json").unlink(missing_ok=True)
    return lab.find_run(folder)


def test_runs_of_the_last_version_open_as_they_did(root, tmp_path):
    lacking = "prompt_embeddings", "backbone.unet.conv_norm_out.", "backbone.unet.conv_out."
    for trainable in ("all", "lora", "adapters"):
        run = _teacher(root, {"trainable": trainable, "adapter_start": "prior"})
        earlier = _as_earlier(run, tmp_path / trainable, lacking)
        assert len(load_weights(earlier.checkpoints / "best.safetensors"))
        ((_, _, paths), expected) = _reported(run, root)
        scores = lab.load_model(earlier.path).score(paths, device="cpu")
        assert np.allclose(scores, expected, atol=1e-5)


def test_an_adapter_that_the_last_version_did_not_keep_is_warned_of(root, tmp_path):
    lacking = "prompt_embeddings", "image_adapter.", "text_adapter."
    run = _teacher(root, {"trainable": "decoder", "adapter_start": "prior"})
    earlier = _as_earlier(run, tmp_path / "earlier", lacking)
    with pytest.warns(UserWarning, match="did not keep its image adapter"):
        other = lab.load_model(earlier.path)
    started = lab.load_model(run.path).image_adapter.conv_in.weight
    assert not torch.equal(other.image_adapter.conv_in.weight, started)


@pytest.mark.parametrize("name", ["image_adapter.conv_in.bias", "text_adapter.gamma"])
def test_a_run_that_lacks_a_part_of_what_it_holds_is_refused(root, tmp_path, name):
    run = _teacher(root, {"trainable": "decoder", "adapter_start": "prior"})
    damaged = _as_earlier(run, tmp_path / "damaged", (name,))
    with pytest.raises(lab.LabError, match=rf"best\.safetensors: weights do not(.|\n)*{name}"):
        lab.load_model(damaged.path)


def test_a_resumed_training_of_the_decoder_has_the_adapter_that_it_began_with(
    root, tmp_path, monkeypatch
):
    options = {"trainable": "decoder", "adapter_start": "prior", "max_steps": 3}
    whole = _teacher(root, {**options, "run_name": "held-whole"})
    from dpiqa_lab.training.teacher_run import TeacherTask

    steps = []

    def stop(task):
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TeacherTask, "stepped", stop, raising=False)
        with pytest.raises(KeyboardInterrupt):
            _teacher(root, {**options, "run_name": "held-resumed"})
    resumed = _teacher(root, {**options, "run_name": "held-resumed"})
    assert len(steps) == 2
    for name in ("best", "last"):
        states = [load_weights(r.checkpoints / f"{name}.safetensors") for r in (whole, resumed)]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    pd.testing.assert_frame_equal(whole.predictions(), resumed.predictions())
