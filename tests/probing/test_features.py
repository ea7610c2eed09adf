"""Extraction against plain hooks, and what the cache's key is made of."""

import contextlib
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dpiqa_lab as lab
from dpiqa_lab.core import files
from dpiqa_lab.core.cache import RowCache, cache_table
from dpiqa_lab.core.device import Compute, choose_compute
from dpiqa_lab.diffusion.attention_maps import map_taps
from dpiqa_lab.diffusion.latents import dataset_latents
from dpiqa_lab.diffusion.taps import block_taps
from dpiqa_lab.probing import features as features_module

EXACT = choose_compute("cpu", "float32")
PROMPTS = ["noise of bad quality", "blur", "of perfect quality"]


@pytest.fixture(scope="module")
def backbone():
    return lab.load_backbone("tiny")


@pytest.fixture
def photos(small_folder):
    dataset = lab.load_dataset("folder", root=small_folder, mos_range=(0, 100), image_size=64)
    return dataset.sample(3)


def _extract(backbone, photos, cache, **options):
    options = {"taps": ["mid_block"], "prompts": PROMPTS, "compute": EXACT, **options}
    return lab.extract_features(backbone, photos, cache_dir=cache, **options)


def _entries(folder):
    return [entry for entry in cache_table(folder) if entry["kind"] == "features"]


@pytest.mark.medium
@torch.no_grad()
def test_every_tap_is_what_a_plain_hook_sees(backbone, photos, tmp_path):
    unet = backbone.unet
    taps = [
        *block_taps(unet),
        *(f"up_blocks.{i}.{name}.0" for i in (1, 3) for name in ("resnets", "attentions")),
        "up_blocks.1.attentions.0.transformer_blocks.0.attn2",
        "down_blocks.1.attentions.0.transformer_blocks.0.ff",
    ]
    found = _extract(backbone, photos, tmp_path, timesteps=[1, 300], taps=taps)
    latents = backbone.encode(torch.stack([photos[i]["image"] for i in range(3)]))
    seen = {}

    def keep(name):
        def hook(module, inputs, output):
            seen[name] = (output[0] if isinstance(output, tuple) else output).clone()

        return hook

    handles = [unet.get_submodule(tap).register_forward_hook(keep(tap)) for tap in taps]
    for timestep in (1, 300):
        backbone.denoise(latents, timestep, PROMPTS)
        for tap in taps:
            over = (2, 3) if seen[tap].ndim == 4 else (1,)
            expected = seen[tap].mean(over)
            torch.testing.assert_close(found[timestep, tap, "mean"], expected, rtol=1e-3, atol=1e-4)
            expected = seen[tap].std(over, correction=0)
            torch.testing.assert_close(found[timestep, tap, "std"], expected, rtol=1e-3, atol=1e-4)
    for handle in handles:
        handle.remove()


def test_maps_are_features_too_and_raw_maps_are_what_is_pooled(backbone, photos, tmp_path):
    taps = [map_taps(backbone.unet)[-1], "mid_block"]
    options = {"factors": ["bad", "blur"], "noise_seed": 3}
    found = _extract(backbone, photos, tmp_path, timesteps=[50], taps=taps, **options)
    raw = lab.probing.activation_maps(
        backbone, photos, [2, 0], 50, taps, PROMPTS, compute=EXACT, **options
    )
    for tap in taps:
        pooled = raw[tap].mean((2, 3))
        torch.testing.assert_close(found[50, tap, "mean"][[2, 0]], pooled, rtol=1e-3, atol=1e-4)
    assert raw[taps[0]].shape[:2] == (2, 2)
    assert raw[taps[0]].shape[2] == raw[taps[0]].shape[3]


def test_the_cache_gives_the_same_bytes(backbone, photos, tmp_path):
    first = _extract(backbone, photos, tmp_path)
    again = _extract(backbone, photos, tmp_path)
    for pooling in ("mean", "std", "max", "grid"):
        assert torch.equal(first[1, "mid_block", pooling], again[1, "mid_block", pooling])


@pytest.mark.parametrize(
    "changed",
    [
        {"timesteps": [2]},
        {"taps": ["up_blocks.0"]},
        {"prompts": PROMPTS[:2]},
        {"noise_seed": 0},
        {"compute": choose_compute("cpu", "bfloat16")},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_changes_the_numbers_changes_the_entry(backbone, photos, tmp_path, changed):
    _extract(backbone, photos, tmp_path)
    assert len(_entries(tmp_path)) == 1
    _extract(backbone, photos, tmp_path, batch_size=2)
    assert len(_entries(tmp_path)) == 1  # how it is batched changes nothing
    _extract(backbone, photos, tmp_path, **changed)
    assert len(_entries(tmp_path)) == 2


def test_another_noise_seed_or_image_size_is_another_entry(backbone, photos, tmp_path):
    _extract(backbone, photos, tmp_path, noise_seed=0)
    _extract(backbone, photos, tmp_path, noise_seed=1)
    assert len(_entries(tmp_path)) == 2
    larger = copy.copy(photos)
    larger.image_size = 128
    _extract(backbone, larger, tmp_path, noise_seed=1)
    assert len(_entries(tmp_path)) == 3


def test_factors_are_in_the_key_of_maps_and_of_nothing_else(backbone, photos, tmp_path):
    taps = [map_taps(backbone.unet)[0], "mid_block"]
    _extract(backbone, photos, tmp_path, taps=taps, factors=["bad"])
    assert len(_entries(tmp_path)) == 2
    _extract(backbone, photos, tmp_path, taps=taps, factors=["blur"])
    assert len(_entries(tmp_path)) == 3


def test_a_second_look_hashes_no_weights_and_reads_each_entry_once(
    backbone, photos, tmp_path, monkeypatch
):
    options = {"timesteps": [1, 300], "taps": ["mid_block", "up_blocks.3"]}
    first = _extract(backbone, photos, tmp_path, **options)
    hashed, read = [], []
    tensors_hash, _read = files.tensors_hash, RowCache.read
    monkeypatch.setattr(files, "tensors_hash", lambda x: hashed.append(x) or tensors_hash(x))
    monkeypatch.setattr(RowCache, "read", lambda self: read.append(self.folder) or _read(self))
    monkeypatch.setattr(features_module, "dataset_latents", None)
    again = _extract(backbone, photos, tmp_path, **options)
    assert torch.equal(first[300, "mid_block", "std"], again[300, "mid_block", "std"])
    assert not hashed
    assert len(read) == len(set(read)) == 4


def test_latents_are_computed_where_the_whole_backbone_is(photos, tmp_path, monkeypatch):
    # Once on a GPU the VAE was there and the photographs, as the U-Net, were not.
    moved = lab.load_backbone("tiny", random_weights=True)
    seen = set()

    def encode(self, images, *_):
        seen.update(x.device.type for x in (images, *self.parameters()))
        return torch.zeros(len(images), 4, 8, 8)

    monkeypatch.setattr(type(moved), "encode", encode)
    monkeypatch.setattr(moved, "vae_hash", lambda: "as on the meta device there are no numbers")
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    elsewhere = Compute(torch.device("meta"), "float32", "as a test wants it")
    dataset_latents(moved, photos, elsewhere, cache_dir=tmp_path)
    assert seen == {"meta"}


def test_a_damaged_entry_is_computed_again(backbone, photos, tmp_path):
    options = {"timesteps": [1, 300], "taps": ["mid_block"]}
    first = _extract(backbone, photos, tmp_path, **options)
    (part,) = Path(_entries(tmp_path)[0]["folder"]).glob("*.safetensors")
    content = bytearray(part.read_bytes())
    content[-1] ^= 1  # the header knows nothing of it
    part.write_bytes(content)
    with pytest.warns(UserWarning, match="checksum"):
        again = _extract(backbone, photos, tmp_path, **options)
    for timestep in (1, 300):
        expected = first[timestep, "mid_block", "mean"]
        torch.testing.assert_close(again[timestep, "mid_block", "mean"], expected)


@pytest.mark.parametrize("part", ["unet", "vae"])
@torch.no_grad()
def test_other_weights_are_another_entry(photos, tmp_path, part):
    backbone = lab.load_backbone("tiny")
    before = _extract(backbone, photos, tmp_path)[1, "mid_block", "mean"]
    module = backbone.unet.conv_in if part == "unet" else backbone.vae.encoder
    next(module.parameters()).add_(0.1)
    after = _extract(backbone, photos, tmp_path)[1, "mid_block", "mean"]
    assert len(_entries(tmp_path)) == 2
    assert not torch.equal(before, after)


def test_another_photograph_under_the_same_name_is_computed_anew(
    backbone, photos, small_folder, tmp_path
):
    _extract(backbone, photos, tmp_path)
    path = photos.table["path"][0]
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    other = lab.load_dataset("folder", root=small_folder, mos_range=(0, 100), image_size=64)
    other = other.sample(3)
    assert other.table["name"].tolist() == photos.table["name"].tolist()
    assert other.table["hash"][0] != photos.table["hash"][0]
    before = _extract(backbone, photos, tmp_path)[1, "mid_block", "mean"]
    after = _extract(backbone, other, tmp_path)[1, "mid_block", "mean"]
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1:], after[1:])
    assert len(_entries(tmp_path)) == 1


def test_a_sample_keeps_the_order_and_is_drawn_by_the_seed(small_folder):
    dataset = lab.load_dataset("folder", root=small_folder, mos_range=(0, 100), image_size=64)
    names = list(dataset.table["name"])
    some = list(dataset.sample(10, 1).table["name"])
    assert some == sorted(some)
    assert set(some) < set(names)
    assert some == list(dataset.sample(10, 1).table["name"])
    assert some != list(dataset.sample(10, 2).table["name"])
    assert set(dataset.sample(6, 1).table["name"]) < set(some)
    parts = dataset.sample(10, 1).table["split"].value_counts()
    assert parts.to_dict() == {"train": 7, "test": 2, "val": 1}
    assert "10 of 30 photographs, drawn by seed 1" in dataset.sample(10, 1).manifest.notes
    assert dataset.sample(99) is dataset


def test_the_cost_of_four_ways_is_told(backbone, photos):
    table = lab.probing.extraction_cost(
        backbone, photos, [1, 100], ["mid_block", "up_blocks.3"], PROMPTS
    )
    assert table["way"].iloc[0] == "one sweep"
    assert table["ratio"].iloc[0] == 1
    assert (table["seconds"] > 0).all()
    assert len(table) == 4
