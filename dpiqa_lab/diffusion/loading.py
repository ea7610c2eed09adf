"""``load_backbone``: presets, hub ids, local folders, and architectures without weights."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import nn

from ..core.device import choose_compute
from .backbone import Backbone
from .presets import PRESETS, Preset
from .sources import explain, find_place, is_random, part_config, part_files, source_name
from .text_embeddings import PromptEmbedder


def load_backbone(
    name: str = "tiny",
    random_weights: bool = False,
    revision: str | None = None,
    seed: int = 0,
) -> Backbone:
    """A diffusion model to take features from.

    Args:
        name: "tiny" (embedded, no network), "sd15", "sd15-taesd" (behind a small, fast VAE),
            "sd21", a hub id, or a local folder in diffusers layout (``unet/`` and ``vae/``).
        random_weights: the architecture alone, initialised by ``seed``; presets need no download.
            A pretrained VAE in a local folder is used, so that only the U-Net and its text encoder
            differ from the pretrained model.
        revision: hub revision in place of the preset's.

    Returns:
        The backbone on the CPU, in float32, in evaluation mode.

    Raises:
        LabError: no such preset, folder or hub id, a gated one, no network, or files missing.
    """
    place = preset, folder, revision = find_place(name, revision)
    random_weights = is_random("unet", name, folder, random_weights)
    parts: dict[str, Any] = {
        part: random_part(part, part_config(*place, part), seed)
        if is_random(part, name, folder, random_weights)
        else _pretrained(part, *place)
        for part in ("vae", "unet")
    }
    drawn_by = seed if random_weights else None
    record = {
        "name": name,
        "source": source_name(name, preset, folder),
        "revision": revision,
        "random_weights": random_weights,
        "seed": drawn_by,
    }
    width = parts["unet"].config.cross_attention_dim
    embedder = PromptEmbedder(preset, revision, width, drawn_by)
    return Backbone(**parts, embed=embedder, record=record, default_prompts=preset.prompts)


def empty_backbone(name: str, weights: str) -> Backbone:
    """The architecture of ``load_backbone(name)`` on torch's meta device, which holds no values.

    For weights from another source: a preset needs no download, nothing is initialised.

    Args:
        weights: their source, for the record.

    Raises:
        LabError: as ``load_backbone``.
    """
    place = preset, folder, revision = find_place(name, None)
    parts: dict[str, Any] = {}
    for part in ("unet", "vae"):
        config = part_config(*place, part)
        with torch.device("meta"):
            parts[part] = _class(part, config).from_config(config)
    record = {
        "name": name,
        "source": source_name(name, preset, folder),
        "revision": revision,
        "random_weights": False,
        "seed": None,
        "weights": weights,
    }
    width = parts["unet"].config.cross_attention_dim
    embedder = PromptEmbedder(preset, revision, width)
    return Backbone(**parts, embed=embedder, record=record, default_prompts=preset.prompts)


def resolve_auto(device: str = "auto") -> tuple[str, str]:
    """The backbone for ``backbone="auto"`` on this machine, and the reason.

    Stable Diffusion 1.5 where there is a GPU and its weights are in the local hub cache or can be
    fetched; else the tiny one.
    """
    compute = choose_compute(device)
    if compute.device.type == "cpu":
        return "tiny", "no GPU here: Stable Diffusion would take seconds a photograph"
    preset = PRESETS["sd15"]
    if _in_hub_cache(preset):
        return "sd15", "a GPU is here and the weights are in the local cache"
    if _can_fetch(preset):
        size = preset.download / 1e9
        return "sd15", f"a GPU is here; {size:.1f} GB are fetched on this first use"
    return "tiny", "a GPU is here, but the weights of sd15 are neither cached nor can be fetched"


def _pretrained(part: str, preset: Preset, folder: Path | None, revision: str | None) -> nn.Module:
    kind = _class(part, part_config(preset, folder, revision, part))
    source, subfolder, revision = part_files(part, preset, folder, revision)
    try:
        return kind.from_pretrained(
            source, subfolder=subfolder, use_safetensors=True, revision=revision,
            torch_dtype=torch.float32,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise explain(error, source, revision) from error


def random_part(part: str, config: dict, seed: int) -> nn.Module:
    """The "unet" or the "vae" of that configuration with weights drawn by ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module: Any = _class(part, config).from_config(config)
        if hasattr(module.config, "latent_magnitude"):
            _scale_latents(module)
    return module


@torch.no_grad()
def _scale_latents(vae: AutoencoderTiny) -> None:
    """Give a random TAESD-style VAE latents of zero mean and unit variance in every channel.

    As a trained one has; with random weights images differ by a tenth of what they share.
    """
    noise = torch.rand(16, 3, 64, 64)
    smooth = torch.nn.functional.interpolate(torch.rand(16, 3, 8, 8), scale_factor=8)
    last = vae.encoder.layers[-1]
    latents = vae.encode(0.3 * noise + 1.4 * smooth - 0.85).latents
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    last.weight.div_(std.view(-1, 1, 1, 1))
    last.bias.sub_(mean).div_(std)


def _class(
    part: str, config: dict
) -> type[UNet2DConditionModel] | type[AutoencoderTiny] | type[AutoencoderKL]:
    if part == "unet":
        return UNet2DConditionModel
    return AutoencoderTiny if config.get("_class_name") == "AutoencoderTiny" else AutoencoderKL


def _in_hub_cache(preset: Preset) -> bool:
    from huggingface_hub import try_to_load_from_cache

    files = ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors")
    return all(
        isinstance(try_to_load_from_cache(preset.source, file, revision=preset.revision), str)
        for file in files
    )


def _can_fetch(preset: Preset) -> bool:
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(preset.source, revision=preset.revision, timeout=5)
    except Exception:  # noqa: BLE001 - for any reason the hub cannot be used
        return False
    return True
