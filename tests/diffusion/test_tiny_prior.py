"""The prior that ships: what it promises without a network."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import dpiqa_lab as lab
from dpiqa_lab.datasets.demo import open_picture
from dpiqa_lab.metrics import psnr
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.medium

FOLDER = REPOSITORY / "data" / "tiny_prior"
PHOTOGRAPHS = (
    "astronaut.png", "camera.png", "chelsea.png", "china.jpg", "coffee.png", "flower.jpg",
    "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip


def test_it_is_small_and_in_half_precision():
    weights = [load_file(path) for path in FOLDER.rglob("*.safetensors")]
    values = [value for part in weights for value in part.values()]
    assert len(weights) == 4  # VAE, U-Net, text encoder, image adapter
    assert 10e6 < sum(value.numel() for value in values) <= 16e6
    assert {value.dtype for value in values} <= {torch.float16, torch.int64}
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) <= 32e6


def test_diffusers_own_pipeline_draws_from_it():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER)
    pipeline.set_progress_bar_config(disable=True)
    prompts = [f"a photo of a plant with blur artifacts, which is of {q} quality" for q in "ab"] * 4
    images = pipeline(prompts, num_inference_steps=2, generator=torch.Generator().manual_seed(0))
    assert [image.size for image in images.images] == [(256, 256)] * 8
    pixels = np.stack([np.asarray(image, float) for image in images.images])
    assert np.isfinite(pixels).all()
    assert pixels.std((1, 2, 3)).min() > 5


@pytest.mark.xfail(strict=True, reason="its text changes next to nothing: see the model card")
def test_the_text_guides_what_is_drawn():
    """At least what it says of noise and blur."""
    prompts = [
        f"a photo of a landscape with {kind} artifacts, which is of bad quality"
        for kind in ("noise", "blur")
    ]
    images = lab.diffusion.generate_images("tiny", prompts, steps=20)
    rough, smooth = (np.abs(np.diff(np.asarray(i, float), axis=1)).mean() for i in images)
    assert rough > 1.5 * smooth


def test_photographs_survive_the_vae_better_than_any_linear_projection():
    corners = []
    for name in PHOTOGRAPHS:
        pixels = np.asarray(open_picture(name))
        height, width = pixels.shape[:2]
        corners += [
            pixels[y : y + 256, x : x + 256] for y in (0, height - 256) for x in (0, width - 256)
        ]
    crops = torch.from_numpy(np.stack(corners)).permute(0, 3, 1, 2).float() / 255
    assert len(crops) == 32
    restored = lab.experiments.reconstruct(lab.load_backbone("tiny"), crops)
    ours, linear = (
        psnr(restored, crops).mean(),
        psnr(lab.experiments.linear_reconstruction(crops), crops).mean(),
    )
    print(f"VAE {ours:.2f} dB, linear {linear:.2f} dB")
    assert ours >= 26  # measured 26.04, and 1.37 above the linear one
    assert ours >= linear + 1


def test_its_random_twin_differs_in_the_unet_alone():
    trained, random = lab.load_backbone("tiny"), lab.load_backbone("tiny", random_weights=True)
    assert trained.vae_hash() == random.vae_hash()
    assert not torch.equal(trained.unet.conv_in.weight, random.unet.conv_in.weight)
    assert "RANDOM" in repr(random)
    assert "RANDOM" not in repr(trained)
    assert not torch.allclose(trained.embed_prompts("none"), random.embed_prompts("none"))
