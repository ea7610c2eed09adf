"""A run names what its weights lack, and refuses to open with anything else in its place."""

import shutil

import numpy as np
import pytest

import dpiqa_lab as lab
from dpiqa_lab.core.files import write_json
from dpiqa_lab.diffusion.presets import find_preset
from dpiqa_lab.diffusion.pretrained import ROLES, pretrained_parts
from dpiqa_lab.training.run_fingerprint import run_fingerprint
from tests.conftest import photographs
from tests.support.configs import QUICK

pytestmark = pytest.mark.medium


@pytest.fixture
def prior(tmp_path):
    """A folder with the tiny prior."""
    return shutil.copytree(find_preset("tiny").source, tmp_path / "prior")


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "photos"
    photographs(root, 12).to_csv(root / "scores.csv", index=False)
    return root


def _trained(root, **options):
    """A run with the record of its models."""
    values = {**QUICK, "data_root": str(root), "max_steps": 1, "precision": "float32", **options}
    run = lab.train_teacher(lab.TrainConfig.from_parameters(values))
    config = run.config
    parts = pretrained_parts(config["backbone"], config["random_weights"], None, config["seed"])
    write_json(run.path / "identity.json", {"models": {ROLES[p]: parts[p] for p in parts}})
    return run


def _changed(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _refused(run, what):
    with pytest.raises(lab.LabError, match=rf"the {what} of .* is another one than run {run.name}"):
        lab.load_model(run.path)


def test_a_frozen_part_that_has_changed_is_refused(root, prior):
    run = _trained(root, backbone=str(prior), trainable="adapters")
    expected = run.predictions()["score"]
    paths = [root / name for name in run.predictions()["name"]]
    assert np.allclose(lab.load_model(run.path).score(paths, device="cpu"), expected, atol=1e-5)
    # A run holds its embeddings: the text encoder, which made them, may be gone.
    shutil.rmtree(prior / "text_encoder")
    assert np.allclose(lab.load_model(run.path).score(paths, device="cpu"), expected, atol=1e-5)
    for part, what in (("unet", "U-Net"), ("vae", "VAE")):
        path = prior / part / "diffusion_pytorch_model.safetensors"
        whole = path.read_bytes()
        _changed(path)
        _refused(run, what)
        path.write_bytes(whole)
    assert np.allclose(lab.load_model(run.path).score(paths, device="cpu"), expected, atol=1e-5)


def test_of_a_trained_unet_the_run_holds_the_whole(root, prior):
    run = _trained(root, backbone=str(prior))
    before = lab.load_model(run.path).score([root / "p000.png"], device="cpu")
    _changed(prior / "unet" / "diffusion_pytorch_model.safetensors")
    assert np.allclose(lab.load_model(run.path).score([root / "p000.png"], device="cpu"), before)
    _changed(prior / "vae" / "diffusion_pytorch_model.safetensors")
    _refused(run, "VAE")


def test_random_parts_are_drawn_again_and_compared(root):
    run = _trained(root, random_weights=True, trainable="decoder", seed=4)
    lab.load_model(run.path)
    path = run.path / "identity.json"
    path.write_text(path.read_text().replace('"seed": 4', '"seed": 5'))
    lab.load_model(run.path)  # what counts are the values
    record = {"random": True, "seed": 4, "sha256": "0" * 64}
    write_json(path, {"models": {ROLES["unet"]: record}})
    _refused(run, "U-Net")


def test_a_run_s_fingerprint_has_all_that_its_model_depends_on(root, prior, tmp_path):
    run = _trained(root, backbone=str(prior), trainable="decoder")
    before = run_fingerprint(run)
    assert set(before) == {"weights", "config", "unet", "vae"}
    copied = lab.find_run(shutil.copytree(run.path, tmp_path / "copied"))
    assert run_fingerprint(copied) == before
    _changed(copied.checkpoints / "best.safetensors")
    write_json(copied.path / "config.json", {**run.config, "timestep": 9})
    _changed(prior / "vae" / "diffusion_pytorch_model.safetensors")
    after = run_fingerprint(lab.find_run(copied.path))
    assert {key for key in before if before[key] != after[key]} == {"weights", "config", "vae"}
