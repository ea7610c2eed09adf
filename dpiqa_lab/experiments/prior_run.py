"""``train_prior``: a small latent diffusion model from a folder of images."""

import contextlib
import copy
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..core.config import resolves
from ..core.device import Compute, keep_freed_memory, make_deterministic
from ..core.experiment import run_once
from ..core.files import check_disk_space, json_hash, tensors_hash
from ..core.identity import Identity, Inputs
from ..core.paths import cache_dir
from ..core.progress import progress_bar
from ..core.runs import Run
from ..datasets.prior_views import Views, list_photographs, make_views
from ..diffusion.tiny import write_layout
from ..models.image_adapter import as_t2i
from ..models.trainable import Trainable
from ..training.checkpoints import drop_checkpoints, load_weights, save_weights
from ..training.loop import Schedule, Task, fit
from .prior_adapter import AdapterTask, PriorAdapter
from .prior_config import PriorConfig
from .prior_unet import PriorUNet, UNetTask
from .prior_vae import DecoderTask, PriorVae, VaeTask, to_images

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

_EXPORTING = ".model-"


@resolves
def train_prior(config: PriorConfig) -> Run:
    """Train image adapter, VAE, then U-Net and text encoder; resume or reuse the runs.

    Runs ``<run_name>-adapter``, ``<run_name>-vae``, ``<run_name>-decoder`` and ``<run_name>``; the
    last holds the finished model in ``model/``, in diffusers layout, float16: for ``load_backbone``
    and ``StableDiffusionPipeline``.

    Raises:
        LabError: bad input, before any long work.
    """
    compute = config.compute()
    make_deterministic()
    keep_freed_memory()
    views = prior_views(config)
    adapter = train_adapter(config, views, compute)
    vae = _train_vae(config, views, compute)

    def work(run: Run) -> dict:
        return _train_unet(run, vae, adapter, config, views, compute)

    parts: dict[str, nn.Module] = {"vae": vae, "image_adapter": adapter}
    models = {name: {"sha256": tensors_hash(part.state_dict())} for name, part in parts.items()}
    identity = Identity(config.identity(), Inputs(views.photographs, models), "PriorConfig")
    run = run_once(config.run_name, identity, work, compute)
    drop_checkpoints(run.checkpoints)
    return run


def prior_views(config: PriorConfig) -> Views:
    """Training views of ``train_prior``, cached.

    Raises:
        LabError: no such folder, too few images, or one that is unreadable or too small.
    """
    assert config.photographs is not None  # resolved
    photographs = list_photographs(config.photographs, config.names, config.pattern)
    views = make_views(
        photographs, cache_dir() / "views", config.views, 256, config.seed, config.workers
    )
    counts = views.table["split"].value_counts()
    print(f"{len(photographs)} photographs, {counts.sum()} views, {counts['val']} held out")
    return views


def train_adapter(config: PriorConfig, views: Views, compute: Compute) -> nn.Module:
    """The trained image adapter, as diffusers' ``T2IAdapter`` saves it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = PriorAdapter()

    def work(run: Run) -> dict:
        print("training the image adapter")
        task = AdapterTask(network, views, config, compute)
        return _fit(run, task, config.adapter_steps, config.adapter_rate, 50, config, compute)

    named = ("adapter", "seed", "device", "precision", "validate_every", "views", "pattern")
    parameters = {k: v for k, v in config.identity().items() if k.startswith(named)}
    _train_component(f"{config.run_name}-adapter", parameters, views, work, compute, network)
    exported: Any = as_t2i(network.trunk.stages)  # diffusers' classes lack types
    return exported


def _train_component(
    name: str,
    parameters: dict,
    views: Views,
    work: Callable[[Run], dict],
    compute: Compute,
    network: Trainable,
) -> None:
    """Train or reuse one component of the prior and load its weights into ``network``."""
    run = run_once(name, Identity(parameters, Inputs(views.photographs)), work, compute)
    drop_checkpoints(run.checkpoints)
    network.load_run_state(load_weights(run.checkpoints / "last.safetensors"))


def _train_vae(config: PriorConfig, views: Views, compute: Compute) -> "AutoencoderTiny":
    """The trained ``AutoencoderTiny``."""
    import diffusers

    with _layout() as layout:
        network = PriorVae(_from_config(diffusers.AutoencoderTiny, layout / "vae", config.seed))

    def work(run: Run) -> dict:
        print("training the VAE")
        task = VaeTask(network, views, config, compute)
        return _fit(run, task, config.vae_steps, config.vae_rate, 100, config, compute)

    parameters = {
        name: value
        for name, value in config.identity().items()
        if not name.startswith(("unet", "adapter", "decoder"))
        and name not in ("drop_caption", "damage_weight")
    }
    _train_component(f"{config.run_name}-vae", parameters, views, work, compute, network)
    if config.decoder_steps:
        train_decoder(config, network, parameters, views, compute)
    return network.vae.to(compute.device, memory_format=torch.channels_last).eval()


def train_decoder(
    config: PriorConfig, network: PriorVae, parameters: dict, views: Views, compute: Compute
) -> None:
    """Continue training of a VAE's decoder, in place; latents do not change."""

    def work(run: Run) -> dict:
        print("training its decoder")
        task = DecoderTask(network, views, config, compute)
        return _fit(run, task, config.decoder_steps, config.vae_rate / 4, 50, config, compute)

    parameters = {**parameters, "decoder_steps": config.decoder_steps}
    vae = {"vae": {"sha256": tensors_hash(network.vae.state_dict())}}
    identity = Identity(parameters, Inputs(views.photographs, vae))
    run = run_once(f"{config.run_name}-decoder", identity, work, compute)
    drop_checkpoints(run.checkpoints)
    network.load_whole_state(load_weights(run.checkpoints / "last.safetensors"))


def _train_unet(
    run: Run,
    vae: "AutoencoderTiny",
    adapter: nn.Module,
    config: PriorConfig,
    views: Views,
    compute: Compute,
) -> dict:
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    with _layout() as layout, torch.random.fork_rng(devices=[]):
        unet = _from_config(diffusers.UNet2DConditionModel, layout / "unet", config.seed)
        torch.manual_seed(config.seed)
        text_encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(layout / "text_encoder"))
        tokenizer = CLIPTokenizer.from_pretrained(layout / "tokenizer")
        scheduler = diffusers.DDPMScheduler.from_pretrained(layout / "scheduler")
        network = PriorUNet(unet, text_encoder)
    latents = _latents(run.path, vae, views, compute)
    scale = 1 / latents.std().item()
    print(f"training U-Net and text encoder; latents scaled by {scale:.4f}")
    task = UNetTask(
        network,
        tokenizer,
        scheduler,
        latents * scale,
        views.table,
        config,
        compute,
    )
    vae.register_to_config(scaling_factor=scale)
    record = _fit(run, task, config.unet_steps, config.unet_rate, 200, config, compute)
    parts = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "image_adapter": adapter}
    _export(run.path / "model", parts)
    return record


def _fit(
    run: Run,
    task: Task,
    steps: int,
    rate: float,
    warmup: int,
    config: PriorConfig,
    compute: Compute,
) -> dict:
    """Train for ``steps``, with linear warm-up and cosine decay; returns the run's summary."""
    schedule = Schedule(
        steps_per_epoch=steps,
        epochs=1,
        learning_rate=rate,
        validate_every=config.validate_every,
        warmup_steps=warmup,
        clip_norm=1.0,
        cosine=True,
    )
    fit(run, task, schedule, compute)
    save_weights(run.checkpoints / "last.safetensors", task.kept())
    last = run.history().iloc[-1]
    return {
        "metrics": {"val": {task.goal: last[f"val_{task.goal}"]}},
        "steps": int(last["step"]),
        "seconds": round(last["seconds"], 1),
    }


@torch.no_grad()
def _latents(folder: Path, vae: "AutoencoderTiny", views: Views, compute: Compute) -> torch.Tensor:
    """Unscaled latents of every view, (n, 4, 32, 32) float32, cached."""
    key = json_hash([views.key, tensors_hash(vae.state_dict())])
    path = folder / f"latents-{key[:12]}.safetensors"
    if path.is_file():
        return load_weights(path)["latents"].float()
    parts = []
    batches = np.array_split(np.arange(len(views.table)), -(-len(views.table) // 16))
    for rows in progress_bar(batches, "encoding views"):
        with compute.autocast():
            encoded = vae.encode(to_images(views.pixels[rows], compute))
        parts.append(encoded.latents.half().cpu())
    save_weights(path, {"latents": torch.cat(parts)})
    # Reloaded, as another memory layout would round differently from a resumed run.
    return load_weights(path)["latents"].float()


def _export(folder: Path, modules: dict) -> None:
    """Write configs, tokenizer and float16 weights atomically."""
    for leftover in folder.parent.glob(f"{_EXPORTING}*"):  # of an export that was killed
        shutil.rmtree(leftover)
    with (
        check_disk_space(folder),
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=_EXPORTING) as temporary,
    ):
        build = Path(temporary) / "model"
        for part, module in modules.items():
            # diffusers' writer maps parameter names.
            copy.deepcopy(module).half().to("cpu").save_pretrained(build / part)
        write_layout(build, round(modules["vae"].config.scaling_factor, 5))
        shutil.rmtree(folder, ignore_errors=True)
        build.replace(folder)


@contextlib.contextmanager
def _layout() -> Iterator[Path]:
    """Temporary folder with the tiny prior's configs and tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        write_layout(Path(folder))
        yield Path(folder)


def _from_config(kind: Any, folder: Path, seed: int) -> Any:  # noqa: ANN401 - diffusers' classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind.from_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
