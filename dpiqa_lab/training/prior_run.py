"""``train_prior``: from a folder of photographs to a small latent diffusion model on the disk."""

import contextlib
import copy
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ..core.device import Compute, choose_compute, keep_freed_memory, make_deterministic
from ..core.files import json_hash, needs_space, tensors_hash
from ..core.paths import cache_dir
from ..core.progress import progress_bar
from ..core.runs import Run, open_run
from ..datasets.views import Views, list_photographs, make_views
from ..diffusion.tiny import write_layout
from ..models.image_adapter import as_t2i
from .checkpoints import drop_checkpoints, load_weights, save_weights
from .loop import Schedule, Task, fit
from .prior_adapter import AdapterTask, PriorAdapter
from .prior_config import PriorConfig
from .prior_unet import PriorUNet, UNetTask
from .prior_vae import DecoderTask, PriorVae, VaeTask, to_images

_EXPORTING = ".model-"


def train_prior(config: PriorConfig) -> Run:
    """Train image adapter, VAE, then U-Net and text encoder; continue or reuse runs of these names.

    Runs ``<run_name>-adapter``, ``<run_name>-vae``, ``<run_name>-decoder`` and ``<run_name>``; the
    last holds the finished model in ``model/``, in diffusers layout, float16: for ``load_backbone``
    and ``StableDiffusionPipeline``.

    Raises:
        LabError: bad input, before any long work.
    """
    compute = choose_compute(config.device, config.precision)
    make_deterministic()
    keep_freed_memory()
    views = prior_views(config)
    print(f"computing on {compute}")
    adapter = train_adapter(config, views, compute)
    vae = _train_vae(config, views, compute)
    numbers = {**config.numbers(), "photographs": views.key}
    with open_run(config.run_name, numbers, compute) as run:
        if not run.reused():
            _train_unet(run, vae, adapter, config, views, compute)
            run.state = "completed"
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


def train_adapter(config: PriorConfig, views: Views, compute: Compute):
    """The trained image adapter, as diffusers' ``T2IAdapter`` saves it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = PriorAdapter()
    named = ("adapter", "seed", "device", "precision", "validate_every")
    numbers = {k: v for k, v in config.numbers().items() if k.startswith(named)}
    numbers["photographs"] = views.key
    with open_run(f"{config.run_name}-adapter", numbers, compute) as run:
        if run.state != "completed":
            print(f"training the image adapter: {run.path}")
            task = AdapterTask(network, views, config, compute)
            _fit(run, task, config.adapter_steps, config.adapter_rate, 50, config, compute)
            _finish(run, task)
            run.state = "completed"
        network.load_run_state(load_weights(run.checkpoints / "last.safetensors"))
    return as_t2i(network.trunk.stages)


def _train_vae(config: PriorConfig, views: Views, compute: Compute):
    """The trained VAE, its scaling factor set."""
    import diffusers

    with _layout() as layout:
        network = PriorVae(_from_config(diffusers.AutoencoderTiny, layout / "vae", config.seed))
    numbers = {
        name: value
        for name, value in {**config.numbers(), "photographs": views.key}.items()
        if not name.startswith(("unet", "adapter"))
        and name not in ("drop_caption", "damage_weight")
    }
    further = numbers.pop("decoder_steps")
    with open_run(f"{config.run_name}-vae", numbers, compute) as run:
        if run.state != "completed":
            print(f"training the VAE: {run.path}")
            task = VaeTask(network, views, config, compute)
            _fit(run, task, config.vae_steps, config.vae_rate, 100, config, compute)
            _finish(run, task)
            run.state = "completed"
        network.load_run_state(load_weights(run.checkpoints / "last.safetensors"))
    if further:
        train_decoder(config, network, {**numbers, "decoder_steps": further}, views, compute)
    return network.vae.to(compute.device, memory_format=torch.channels_last).eval()


def train_decoder(
    config: PriorConfig, network: PriorVae, numbers: dict, views: Views, compute: Compute
) -> None:
    """Train a finished VAE's decoder further, in place: latents, and what learnt on them, stay."""
    with open_run(f"{config.run_name}-decoder", numbers, compute) as run:
        if run.state != "completed":
            print(f"training its decoder: {run.path}")
            task = DecoderTask(network, views, config, compute)
            _fit(run, task, config.decoder_steps, config.vae_rate / 4, 50, config, compute)
            _finish(run, task)
            run.state = "completed"
        network.load_whole_state(load_weights(run.checkpoints / "last.safetensors"))


def _train_unet(
    run: Run, vae, adapter, config: PriorConfig, views: Views, compute: Compute
) -> None:
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
    print(f"training U-Net and text encoder: {run.path}; latents scaled by {scale:.4f}")
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
    _fit(run, task, config.unet_steps, config.unet_rate, 200, config, compute)
    parts = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "image_adapter": adapter}
    _export(run.path / "model", parts)
    _finish(run, task)


def _fit(run: Run, task: Task, steps: int, rate: float, warmup: int, config, compute) -> None:
    """One pass of ``steps``, the rate rising over ``warmup`` and falling to 0 by a cosine."""
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


def _finish(run: Run, task: Task) -> None:
    """Only once all is written: a completed run is never looked into again."""
    last = run.history().iloc[-1]
    run.write_summary(
        "completed",
        metrics={"val": {task.goal: last[f"val_{task.goal}"]}},
        steps=int(last["step"]),
        seconds=round(last["seconds"], 1),
    )
    drop_checkpoints(run.checkpoints)


@torch.no_grad()
def _latents(folder: Path, vae, views: Views, compute: Compute) -> torch.Tensor:
    """Unscaled latents of every view, (n, 4, 32, 32) float32, encoded once and kept."""
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
    # As stored: another layout in memory would round otherwise than a resumed run does.
    return load_weights(path)["latents"].float()


def _export(folder: Path, modules: dict) -> None:
    """Write configs, tokenizer and float16 weights, whole or not at all."""
    for leftover in folder.parent.glob(f"{_EXPORTING}*"):  # of an export that was killed
        shutil.rmtree(leftover)
    with (
        needs_space(folder),
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=_EXPORTING) as temporary,
    ):
        build = Path(temporary) / "model"
        for part, module in modules.items():
            # The library's own writer: names in the file are not those of its modules.
            copy.deepcopy(module).half().to("cpu").save_pretrained(build / part)
        write_layout(build, round(modules["vae"].config.scaling_factor, 5))
        shutil.rmtree(folder, ignore_errors=True)
        build.replace(folder)


@contextlib.contextmanager
def _layout() -> Iterator[Path]:
    """The tiny prior's configs and tokenizer in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        write_layout(Path(folder))
        yield Path(folder)


def _from_config(kind, folder: Path, seed: int):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind.from_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
