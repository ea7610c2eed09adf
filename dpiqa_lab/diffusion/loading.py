"""``load_backbone``: presets, hub ids, local folders, and architectures without weights."""

import json
import warnings
from pathlib import Path

import torch

from ..core.device import choose_compute
from ..core.errors import LabError
from .backbone import Backbone
from .embeddings import PromptEmbedder
from .presets import PRESETS, Preset, find_preset

_HUB_ERRORS = (
    "GatedRepoError",
    "RepositoryNotFoundError",
    "RevisionNotFoundError",
    "LocalEntryNotFoundError",
    "EntryNotFoundError",
    "HfHubHTTPError",
    "HFValidationError",
    "OfflineModeIsEnabled",
)


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
            A VAE whose weights lie in a local folder is kept: what differs is what the U-Net and
            its text encoder have learnt, not what they are shown.
        revision: hub revision in place of the preset's.

    Returns:
        The backbone on the CPU, in float32, in evaluation mode.

    Raises:
        LabError: no such preset, folder or hub id, a gated one, no network, or files missing.
    """
    place = preset, folder, revision = _find(name, revision)
    if name == "tiny" and not list(folder.glob("unet/*.safetensors")):
        random_weights = True
    keep_vae = not random_weights or (folder and list(folder.glob("vae/*.safetensors")))
    vae = _pretrained("vae", *place) if keep_vae else _random("vae", *place, seed)
    unet = _random("unet", *place, seed) if random_weights else _pretrained("unet", *place)
    record = {
        "name": name,
        "source": preset.source if not folder or name not in PRESETS else name,
        "revision": revision,
        "random_weights": random_weights,
        "seed": seed if random_weights else None,
    }
    embedder = PromptEmbedder(preset, revision, unet.config.cross_attention_dim, record)
    return Backbone(unet, vae, embedder, record, preset.prompts)


def empty_backbone(name: str, weights: str) -> Backbone:
    """The architecture of ``load_backbone(name)`` on torch's meta device, which holds no values.

    For weights that come from elsewhere: nothing is downloaded for a preset, nothing initialised.

    Args:
        weights: where they come from, for the record.

    Raises:
        LabError: as ``load_backbone``.
    """
    place = preset, folder, revision = _find(name, None)
    parts = {}
    for part in ("unet", "vae"):
        config = _config(*place, part)
        with torch.device("meta"):
            parts[part] = _class(part, config).from_config(config)
    record = {
        "name": name,
        "source": preset.source if not folder or name not in PRESETS else name,
        "revision": revision,
        "random_weights": False,
        "seed": None,
        "weights": weights,
    }
    width = parts["unet"].config.cross_attention_dim
    embedder = PromptEmbedder(preset, revision, width, record)
    return Backbone(**parts, embed=embedder, record=record, default_prompts=preset.prompts)


def resolve_auto(device: str = "auto") -> tuple[str, str]:
    """The backbone that ``backbone="auto"`` means here, and why.

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


def _find(name: str, revision: str | None) -> tuple[Preset, Path | None, str | None]:
    """Preset, folder where it is one, and revision where it is none."""
    preset = find_preset(name)
    folder = Path(preset.source).expanduser()
    if folder.is_dir():
        return preset, folder, None
    if preset.source.count("/") != 1 or preset.source.startswith((".", "/")):
        raise LabError(
            f"no backbone {name!r}: expected one of {', '.join(PRESETS)}, a hub id such as "
            "'owner/name', or a folder in diffusers layout."
        )
    revision = revision or preset.revision
    if revision is None:
        warnings.warn(
            f"{name} is taken at its newest revision, which may change: pin it by revision='…', a "
            "commit of its page.",
            stacklevel=3,
        )
    return preset, None, revision


def _pretrained(part: str, preset: Preset, folder: Path | None, revision: str | None):
    source, subfolder = str(folder or preset.source), part
    kind = _class(part, _config(preset, folder, revision, part))
    if part == "vae" and preset.vae:
        source, subfolder, revision = preset.vae, None, None
    try:
        return kind.from_pretrained(
            source, subfolder=subfolder, use_safetensors=True, revision=revision,
            torch_dtype=torch.float32,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise explain(error, source, revision) from error


def _random(part: str, preset: Preset, folder: Path | None, revision: str | None, seed: int):
    config = _config(preset, folder, revision, part)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _class(part, config).from_config(config)
        if hasattr(module.config, "latent_magnitude"):
            _scale_latents(module)
    return module


@torch.no_grad()
def _scale_latents(vae) -> None:
    """Give a random TAESD-style VAE latents of zero mean and unit variance in every channel.

    A trained one has them; at random, what differs between images is a tenth of what they share.
    """
    noise = torch.rand(16, 3, 64, 64)
    smooth = torch.nn.functional.interpolate(torch.rand(16, 3, 8, 8), scale_factor=8)
    last = vae.encoder.layers[-1]
    latents = vae.encode(0.3 * noise + 1.4 * smooth - 0.85).latents
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    last.weight.div_(std.view(-1, 1, 1, 1))
    last.bias.sub_(mean).div_(std)


def _class(part: str, config: dict):
    import diffusers

    if part == "unet":
        return diffusers.UNet2DConditionModel
    tiny = config.get("_class_name") == "AutoencoderTiny"
    return diffusers.AutoencoderTiny if tiny else diffusers.AutoencoderKL


def _config(preset: Preset, folder: Path | None, revision: str | None, part: str) -> dict:
    if preset.architecture:
        return preset.architecture[part]
    if folder:
        path = folder / part / "config.json"
        if not path.is_file():
            raise LabError(f"{folder} is not in diffusers layout: {part}/config.json is missing.")
    else:
        from huggingface_hub import hf_hub_download

        try:
            path = Path(
                hf_hub_download(preset.source, "config.json", subfolder=part, revision=revision)
            )
        except (OSError, ValueError) as error:
            raise explain(error, preset.source, revision) from error
    return json.loads(path.read_text(encoding="utf-8"))


def explain(error: Exception, source: str, revision: str | None) -> LabError:
    """The cause of a failed load in words."""
    chain = [type(e).__name__ for e in (error, error.__cause__, error.__context__) if e]
    kind = next((name for name in chain if name in _HUB_ERRORS), chain[0])
    where = f"{source} at revision {revision}" if revision else source
    if "Gated" in kind:
        advice = "it is gated: accept its terms on its page and log in with `hf auth login`"
    elif kind in ("LocalEntryNotFoundError", "OfflineModeIsEnabled") or "Connect" in kind:
        advice = "it is not in the local cache and the hub cannot be reached: check the network"
    elif kind in ("RepositoryNotFoundError", "RevisionNotFoundError"):
        advice = "the hub has no such repository or revision, or it is private: check the name"
    else:
        advice = f"{kind}: {str(error).splitlines()[0][:200]}"
    return LabError(
        f"cannot load {where}: {advice}. Without a download: backbone='tiny', a local folder in "
        "diffusers layout, or random_weights=True for the architecture alone."
    )


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
    except Exception:  # whatever keeps the hub from answering, the answer is no
        return False
    return True
