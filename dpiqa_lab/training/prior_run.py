"""``train_prior``: from a folder of photographs to a small latent diffusion model on the disk."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from ..core.device import Compute, choose_compute, keep_freed_memory, make_deterministic
from ..core.paths import cache_dir
from ..core.progress import progress_bar
from ..core.runs import Run, open_run
from ..datasets.views import Views, list_photographs, make_views
from ..diffusion.tiny import write_layout
from ..models.trainable import Trainable
from .checkpoints import drop_checkpoints, load_weights, save_weights
from .loop import Schedule, fit
from .prior_config import PriorConfig
from .prior_unet import PriorUNet, UNetTask
from .prior_vae import PriorVae, VaeTask

_WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


def train_prior(config: PriorConfig) -> Run:
    """Train VAE, then U-Net and text encoder; continue or reuse runs of these names.

    Two runs, ``<run_name>-vae`` and ``<run_name>``; the second holds the finished model in
    ``model/``, in diffusers layout, float16: for ``load_backbone`` and ``StableDiffusionPipeline``.

    Raises:
        LabError: bad input, before any long work.
    """
    compute = choose_compute(config.device, config.precision)
    make_deterministic()
    keep_freed_memory()
    views = prior_views(config)
    print(f"computing on {compute}")
    vae = _train_vae(config, views, compute)
    with open_run(config.run_name, config.numbers(), compute) as run:
        if run.state != "completed":
            _train_unet(run, vae, config, views, compute)
            run.state = "completed"
        else:
            print(f"run {run.name} is completed with these parameters: reused. {run.path}")
    return run


def prior_views(config: PriorConfig) -> Views:
    """What ``train_prior`` learns from; made once and kept.

    Raises:
        LabError: no such folder, too few photographs, or one that is unreadable or too small.
    """
    photographs = list_photographs(config.photographs, config.names, config.pattern)
    views = make_views(
        photographs, cache_dir() / "views", config.views, 256, config.seed, config.workers
    )
    counts = views.table["split"].value_counts()
    print(f"{len(photographs)} photographs, {counts.sum()} views, {counts['val']} held out")
    return views


def _train_vae(config: PriorConfig, views: Views, compute: Compute):
    """The trained VAE, its scaling factor set."""
    import diffusers

    layout = _layout(cache_dir() / "tiny_layout")
    network = PriorVae(_from_config(diffusers.AutoencoderTiny, layout / "vae", config.seed))
    numbers = {
        name: value
        for name, value in config.numbers().items()
        if not name.startswith("unet") and name != "drop_caption"
    }
    with open_run(f"{config.run_name}-vae", numbers, compute) as run:
        if run.state != "completed":
            print(f"training the VAE: {run.path}")
            task = VaeTask(network, views, config, compute)
            schedule = Schedule(
                steps_per_epoch=config.vae_steps,
                epochs=1,
                learning_rate=config.vae_rate,
                validate_every=config.validate_every,
                warmup_steps=100,
                clip_norm=1.0,
                cosine=True,
            )
            _fit(run, network, task, schedule, compute)
            run.state = "completed"
        network.load_trainable_state(load_weights(run.checkpoints / "last.safetensors"))
    return network.vae.to(compute.device, memory_format=torch.channels_last).eval()


def _train_unet(run: Run, vae, config: PriorConfig, views: Views, compute: Compute) -> None:
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    layout = _layout(cache_dir() / "tiny_layout")
    unet = _from_config(diffusers.UNet2DConditionModel, layout / "unet", config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        text_encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(layout / "text_encoder"))
    network = PriorUNet(unet, text_encoder)
    latents = _latents(run.path / "latents.safetensors", vae, views, compute)
    scale = 1 / latents.std().item()
    print(f"training U-Net and text encoder: {run.path}; latents scaled by {scale:.4f}")
    task = UNetTask(
        network,
        CLIPTokenizer.from_pretrained(layout / "tokenizer"),
        diffusers.DDPMScheduler.from_pretrained(layout / "scheduler"),
        latents * scale,
        views.table,
        config,
        compute,
    )
    schedule = Schedule(
        steps_per_epoch=config.unet_steps,
        epochs=1,
        learning_rate=config.unet_rate,
        validate_every=config.validate_every,
        warmup_steps=200,
        clip_norm=1.0,
        cosine=True,
    )
    vae.register_to_config(scaling_factor=scale)
    _fit(run, network, task, schedule, compute)
    _export(run.path / "model", {"unet": unet, "vae": vae, "text_encoder": text_encoder})


def _fit(run: Run, network: Trainable, task, schedule: Schedule, compute: Compute) -> None:
    progress = fit(run, task, schedule, compute)
    network.float()
    save_weights(run.checkpoints / "last.safetensors", network.trainable_state())
    run.write_summary(
        "completed",
        metrics={"val": {task.goal: progress.best}},
        steps=progress.step,
        seconds=round(progress.seconds, 1),
    )
    drop_checkpoints(run.checkpoints)


@torch.no_grad()
def _latents(path: Path, vae, views: Views, compute: Compute) -> torch.Tensor:
    """Unscaled latents of every view, (n, 4, 32, 32) float32, encoded once."""
    if path.is_file():
        return load_weights(path)["latents"].float()
    parts = []
    batches = np.array_split(np.arange(len(views.table)), -(-len(views.table) // 16))
    for rows in progress_bar(batches, "encoding views"):
        pixels = torch.from_numpy(views.pixels[rows]).to(compute.device)
        with compute.autocast():
            encoded = vae.encode(pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1))
        parts.append(encoded.latents.half().cpu())
    save_weights(path, {"latents": torch.cat(parts)})
    return torch.cat(parts).float()


def _export(folder: Path, modules: dict) -> None:
    """Write configs, tokenizer and float16 weights."""
    shutil.rmtree(folder, ignore_errors=True)
    write_layout(folder, round(modules["vae"].config.scaling_factor, 5))
    for part, module in modules.items():
        tensors = {name: value.half() for name, value in module.state_dict().items()}
        save_weights(folder / part / _WEIGHTS[part], tensors, format="pt")


def _layout(folder: Path) -> Path:
    write_layout(folder)
    return folder


def _from_config(kind, folder: Path, seed: int):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind.from_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
