import dataclasses
import math

import numpy as np
import pytest
import torch

import dpiqa_lab as lab
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.identity import Identity
from dpiqa_lab.core.runs import open_run
from dpiqa_lab.models.trainable import Trainable
from dpiqa_lab.training.contrastive import DistortedCrops, distorted_pairs, info_nce
from dpiqa_lab.training.loop import Schedule, Task, fit
from dpiqa_lab.training.peer_config import PmtIqaConfig, QualityEncoderConfig
from dpiqa_lab.training.pmt_iqa_run import PmtIqaTask, random_crops
from dpiqa_lab.training.quality_encoder_run import load_quality_encoder

SMALL = {
    "dataset": "folder", "mos_range": "0,100", "trunk": "resnet_tiny", "image_size": 64,
    "crop_size": 32, "device": "cpu", "precision": "float32",
}  # fmt: skip
PMT = {**SMALL, "epochs": 3, "batch_size": 8, "validate_every": 3, "learning_rate": 1e-3}


class OneWeight(Trainable):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x):
        return 0 * self.weight.sum()


class DecayTask(Task):
    goal = "srcc"

    def __init__(self, groups):
        self.network = OneWeight()
        self.groups = groups

    def parameter_groups(self):
        return [{**group, **self.groups} for group in super().parameter_groups()]

    def batches(self, epoch, start):
        return ([[[0]]] for _ in range(start, 4))

    def loss(self, model, batch):
        return model(None), 1

    def validate(self, model):
        return {"srcc": 0.0}


@pytest.mark.parametrize(("decay", "expected"), [({}, 1.0), ({"weight_decay": 0.5}, 0.96)])
def test_the_loop_s_adam_decays_weights_where_a_group_says_so(tmp_path, decay, expected):
    compute = choose_compute("cpu", "float32")
    task = DecayTask(decay)
    with open_run("decay", Identity({}), compute, root=tmp_path) as run:
        fit(run, task, Schedule(4, 1, learning_rate=0.01), compute)
    # Without a gradient of the loss a step of Adam moves by the rate, towards 0.
    torch.testing.assert_close(
        task.network.weight.data, torch.full((2,), expected), atol=1e-3, rtol=0
    )


def test_from_classes_to_scores_over_the_epochs():
    config = PmtIqaConfig(epochs=5)
    assert [config.regression(epoch) for epoch in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert PmtIqaConfig(epochs=1).regression(0) == 1


def test_crops_are_parts_of_their_photograph_and_half_are_mirrored():
    images = torch.arange(3 * 3 * 40 * 50).reshape(3, 3, 40, 50)
    crops = random_crops(images, 32, 20, np.random.default_rng(0))
    assert crops.shape == (60, 3, 32, 32)
    mirrored = crops[:, 0, 0, 0] > crops[:, 0, 0, 1]
    assert 15 < mirrored.sum() < 45
    for i, crop in enumerate(crops):
        crop = crop.flip(2) if mirrored[i] else crop
        y, x = divmod(crop[0, 0, 0].item() % (40 * 50), 50)
        assert torch.equal(crop, images[i // 20, :, y : y + 32, x : x + 32])


def pmt_config(root, **options):
    return PmtIqaConfig.from_parameters({**PMT, "data_root": str(root), **options})


def test_pmt_iqa_trains_is_reused_and_opened(small_folder, capsys):
    config = pmt_config(small_folder)
    run = lab.training.train_pmt_iqa(config)
    assert run.config["kind"] == "pmt_iqa"
    assert run.summary()["status"] == "completed"
    assert {"val", "test"} == set(run.summary()["metrics"])
    table = run.predictions()
    assert {"name", "mos", "score", "split"} <= set(table)
    dataset = lab.load_dataset("folder", small_folder, mos_range=(0, 100), image_size=64)
    paths = dataset.table.set_index("name")["path"]
    model = lab.load_model(run.path)
    scores = model.score(list(paths[table["name"]]), device="cpu")
    np.testing.assert_allclose(scores, table["score"], atol=1e-5)
    assert lab.training.train_pmt_iqa(config).path == run.path
    assert "reused" in capsys.readouterr().out


@pytest.mark.medium
def test_pmt_iqa_resumed_ends_with_the_same_bytes(small_folder, monkeypatch):
    whole = lab.training.train_pmt_iqa(pmt_config(small_folder, run_name="pmt-whole"))
    validate, calls = PmtIqaTask.validate, []

    def stop_at_the_second(self, model):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(self, model)

    config = pmt_config(small_folder, run_name="pmt-broken")
    monkeypatch.setattr(PmtIqaTask, "validate", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        lab.training.train_pmt_iqa(config)
    monkeypatch.setattr(PmtIqaTask, "validate", validate)
    broken = lab.training.train_pmt_iqa(config)
    for name in ("checkpoints/best.safetensors", "checkpoints/last.safetensors", "predictions.csv"):
        assert (broken.path / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_configs_refuse_what_they_do_not_know(small_folder):
    with pytest.raises(LabError, match="Did you mean 'epochs'"):
        PmtIqaConfig.from_parameters({**PMT, "epoch": 2})
    config = QualityEncoderConfig.from_parameters(
        {**SMALL, "data_root": str(small_folder), "crop_size": 96}
    )
    with pytest.raises(LabError, match="crop_size 96 is over image_size 64"):
        lab.training.train_quality_encoder(config)


def test_contrastive_loss_by_hand():
    # Partners are equal, the two pairs at right angles: e^(1/t) against e^(1/t) + 2.
    projected = torch.tensor([[[1.0, 0], [1, 0]], [[0, 1], [0, 1]]])
    loss, found = info_nce(projected, 0.5)
    assert loss.item() == pytest.approx(-math.log(math.e**2 / (math.e**2 + 2)), rel=1e-5)
    assert found == 1
    # Partners at right angles, each equal to one of the other pair: 1 against 1 + e^(1/t) + 1.
    loss, found = info_nce(torch.tensor([[[1.0, 0], [0, 1]], [[1, 0], [0, 1]]]), 0.5)
    assert loss.item() == pytest.approx(math.log(math.e**2 + 2), rel=1e-5)
    assert found == 0


def test_pairs_are_of_one_version_and_the_first_is_undamaged():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 40, 50), np.uint8))
    generator = np.random.default_rng(3)
    assert generator.random() < 0.5  # but at this size nothing is halved
    pairs = distorted_pairs(pixels, 32, 3, np.random.default_rng(3))
    assert [pair.shape for pair in pairs] == [(2, 3, 32, 32)] * 3
    windows = pixels.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4)

    def is_part(crop):
        return any((windows == x).flatten(2).all(2).any() for x in (crop, crop.flip(2)))

    assert all(is_part(crop) for crop in pairs[0])
    assert not any(is_part(crop) for pair in pairs[1:] for crop in pair)


def test_a_step_of_crops_follows_from_its_number(small_folder):
    config = QualityEncoderConfig(crop_size=32, scenes=4, versions=2)
    photographs = [(torch.full((3, 64, 64), 50 * i, dtype=torch.uint8),) for i in range(4)]
    one, other = (DistortedCrops(photographs, config, 3, stream) for stream in (5, 6))
    assert one[1].shape == (8, 2, 3, 32, 32)
    assert torch.equal(one[1], one[1])
    assert not torch.equal(one[1], one[2])
    assert not torch.equal(one[1], other[1])


@pytest.mark.medium
def test_a_quality_encoder_learns_to_tell_damage(pictures_folder, tmp_path):
    names = sorted(path.name for path in pictures_folder.glob("*.png"))
    labels = tmp_path / "scores.csv"
    labels.write_text("name,mos\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    config = QualityEncoderConfig.from_parameters(
        {
            **SMALL, "data_root": str(pictures_folder), "labels": str(labels), "image_size": 128,
            "crop_size": 64, "steps": 60, "validate_every": 20, "scenes": 4,
        }
    )  # fmt: skip
    run = lab.training.train_quality_encoder(config)
    history = run.history()
    losses = [value for row in history["losses"] for value in row]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])
    chance = 1 / (2 * 4 * 3 - 1)
    assert run.summary()["metrics"]["val"]["found"] > 4 * chance
    encoder = load_quality_encoder(run)
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, 128)
    assert dataclasses.asdict(config)["run_name"] == run.name
