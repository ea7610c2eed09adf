"""The teacher: one U-Net pass guided by quality prompts, decoded into a score (paper figure 2)."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from diffusers import UNet2DConditionModel

from ..core.device import Compute
from ..core.errors import LabError, unknown
from ..diffusion.attention import fixed_prompts
from ..diffusion.backbone import Backbone
from ..diffusion.taps import FeatureTaps
from .image_adapter import ImageAdapter
from .image_scorer import ImageScorer, ModelOutput
from .quality_feature_decoder import QualityFeatureDecoder
from .text_adapter import TextAdapter
from .trainable import Trainable

TRAINABLE = ("all", "lora", "adapters", "decoder")


class Teacher(ImageScorer, Trainable):
    """DP-IQA's teacher around any backbone.

    Args:
        backbone: its U-Net is trained too, its VAE is not.
        prompts: prompt set, or its embeddings (1, K, d); ``None`` is the backbone's default set.
        timestep: of the one U-Net pass, 0 to 999.
        decoder_width: of the quality feature decoder; 512 as published.
        decoder_head: "flat" as published, or "pooled", see ``QualityFeatureDecoder``.
        text_adapter, image_adapter: whether to include them.
        vae_input: range the VAE sees, "[-1,1]" or the authors' "[0,1]".
        image_size: side that ``score`` squashes photographs to, in pixels.
        prompt_pooling: how a prompt becomes one vector, "eos" or "mean".
        up_blocks: number of up blocks fed to the decoder, deepest first; ``None`` is all.
        patches: per side; adapter and U-Net process each independently. 1 is the whole image, as
            published.

    Raises:
        LabError: an impossible timestep, VAE input, number of up blocks or of patches.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: str | Sequence[str] | torch.Tensor | None = None,
        timestep: int = 1,
        decoder_width: int = 512,
        text_adapter: bool = True,
        image_adapter: bool = True,
        vae_input: str = "[-1,1]",
        image_size: int = 512,
        prompt_pooling: str = "eos",
        decoder_head: str = "flat",
        up_blocks: int | None = None,
        patches: int = 1,
    ) -> None:
        super().__init__()
        if not 0 <= timestep < 1000:
            raise LabError(f"timestep must be between 0 and 999, got {timestep!r}.")
        if vae_input not in ("[-1,1]", "[0,1]"):
            raise unknown("vae_input", vae_input, ["[-1,1]", "[0,1]"])
        widths = backbone.unet.config.block_out_channels
        up_blocks = len(widths) if up_blocks is None else up_blocks
        if not 1 <= up_blocks <= len(widths):
            raise LabError(f"up_blocks must be between 1 and {len(widths)}, got {up_blocks!r}.")
        if patches < 1 or image_size % patches:
            raise LabError(
                f"patches must divide the side of the photograph, {image_size}, got {patches!r}."
            )
        backbone.check_size(image_size // patches, image_size // patches)
        self.backbone = backbone
        self.timestep = timestep
        self.vae_input = vae_input
        self.image_size = image_size
        self.patches = patches
        # Finest level first, the order of the published decoder: 320, 640, 1280, 1280 channels.
        self.taps = [f"up_blocks.{i}" for i in reversed(range(up_blocks))]
        embeddings = (
            prompts
            if isinstance(prompts, torch.Tensor)
            else backbone.embed_prompts(prompts, prompt_pooling)
        )
        width = backbone.unet.config.cross_attention_dim
        if embeddings.ndim != 3 or embeddings.shape[::2] != (1, width):
            raise LabError(
                f"prompt embeddings are {tuple(embeddings.shape)}, expected (1, K, {width}) for "
                f"the U-Net of {backbone.name}."
            )
        self.prompt_embeddings: torch.Tensor
        self.register_buffer("prompt_embeddings", embeddings.detach().clone())
        self.text_adapter = TextAdapter(width) if text_adapter else None
        self.image_adapter = ImageAdapter(widths, backbone.downscale) if image_adapter else None
        self.head_reads_adapter = image_adapter and decoder_head == "pooled"
        self.quality_feature_decoder = QualityFeatureDecoder(
            widths[-up_blocks:],
            decoder_width,
            decoder_head,
            widths if self.head_reads_adapter else (),
        )
        self._fixed: torch.Tensor | None = None  # adapted prompts, within ``evaluation``
        self._trained = "all"
        self.set_trainable("all")

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latents (b, 4, h/8, w/8) of images (b, 3, h, w) in [0,1]: the frozen part of a pass."""
        return self.backbone.encode(images, self.vae_input)

    def forward(self, images: torch.Tensor, latents: torch.Tensor | None = None) -> ModelOutput:
        """Score and feature map of images (b, 3, h, w) in [0,1].

        ``latents``: from ``encode``, where already computed.
        """
        score, feature_map = self.quality_feature_decoder(self.levels(images, latents))
        return ModelOutput(score, feature_map)

    def levels(
        self, images: torch.Tensor, latents: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """The decoder's inputs: outputs of the up blocks, finest first.

        For a pooled head the image adapter's outputs follow.
        """
        latents = self.encode(images) if latents is None else latents
        if self.patches > 1:
            images, latents = (_parted(x, self.patches) for x in (images, latents))
        prompts = self.adapted_prompts()
        residuals = self.image_adapter(images) if self.image_adapter else None
        with FeatureTaps(self.backbone.unet, self.taps, stop=True, copy=False) as taps:
            self.backbone.denoise(latents, self.timestep, prompts, residuals)
        others = residuals if residuals and self.head_reads_adapter else []
        levels = [*(taps[name] for name in self.taps), *others]
        return [_joined(x, self.patches) for x in levels] if self.patches > 1 else levels

    def adapted_prompts(self) -> torch.Tensor:
        """The U-Net's guidance: the prompts' embeddings (1, K, d) through the text adapter."""
        if self._fixed is not None and not torch.is_grad_enabled():
            return self._fixed
        prompts = self.prompt_embeddings
        return self.text_adapter(prompts) if self.text_adapter else prompts

    @contextlib.contextmanager
    def evaluation(self, compute: Compute) -> Iterator[None]:
        """See ``ImageScorer``: adapted prompts, their keys and values are computed once."""
        with super().evaluation(compute):
            outer, self._fixed = self._fixed, None
            # A tensor of its own, by which projections are known: in a block within another they
            # may be of another precision.
            self._fixed = self.adapted_prompts().clone()
            try:
                with fixed_prompts(self.backbone.unet, self._fixed):
                    yield
            finally:
                self._fixed = outer

    def set_trainable(self, which: str, lora_rank: int = 8) -> None:
        """Freeze everything that is not to be trained.

        Args:
            which: "all" (U-Net, adapters, decoder: the paper), "lora" (the same, but of the U-Net
                only low-rank additions to its attentions' projections), "adapters" (adapters and
                decoder) or "decoder".
            lora_rank: rank of these additions.

        Raises:
            LabError: "lora" without the peft package.
        """
        if which not in TRAINABLE:
            raise unknown("trainable", which, TRAINABLE)
        self._trained = which
        self.requires_grad_(False)
        self.quality_feature_decoder.requires_grad_(True)
        if which != "decoder":
            for adapter in (self.text_adapter, self.image_adapter):
                if adapter is not None:
                    adapter.requires_grad_(True)
        if which == "all":
            unet = self.backbone.unet.requires_grad_(True)
            # The pass ends at the last up block: what follows it never gets a gradient.
            for last in (unet.conv_norm_out, unet.conv_out):
                last.requires_grad_(False)
        elif which == "lora":
            _add_lora(self.backbone.unet, lora_rank)

    def settings(self) -> dict:
        """See ``ImageScorer``; the configurations of U-Net and VAE too."""
        parts = {"unet": self.backbone.unet, "vae": self.backbone.vae}
        return {
            **super().settings(),
            "head": self.quality_feature_decoder.head,
            **{name: _configuration(part.config) for name, part in parts.items()},
        }

    def run_state(self) -> dict[str, torch.Tensor]:
        """See ``Trainable``: without the VAE and, where it is frozen, the U-Net."""
        return {k: v for k, v in self.state_dict().items() if not self._stays_pretrained(k)}

    def added_to_run_state(self) -> set[str]:
        """See ``Trainable``: earlier runs hold what was trained alone."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        return self.run_state().keys() - trained

    def _stays_pretrained(self, name: str) -> bool:
        if name.startswith("backbone.unet."):
            return self._trained != "all" and ".lora_" not in name
        return name.startswith("backbone.vae.")

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of each part."""
        parts = {
            "vae": self.backbone.vae,
            "unet": self.backbone.unet,
            "image_adapter": self.image_adapter,
            "text_adapter": self.text_adapter,
            "quality_feature_decoder": self.quality_feature_decoder,
        }
        return {k: sum(p.numel() for p in m.parameters()) for k, m in parts.items() if m}


def _configuration(config: Mapping[str, object]) -> dict:
    """A diffusers module's configuration without its notes on files and versions."""
    return {k: v for k, v in config.items() if not k.startswith("_")}


def _parted(x: torch.Tensor, n: int) -> torch.Tensor:
    """Maps (b, c, n h, n w) as their n x n patches (b n n, c, h, w)."""
    rows = x.unflatten(2, (n, -1)).unflatten(4, (n, -1))
    return rows.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def _joined(x: torch.Tensor, n: int) -> torch.Tensor:
    """The inverse of ``_parted``."""
    rows = x.unflatten(0, (-1, n, n))
    return rows.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)


def _add_lora(unet: UNet2DConditionModel, rank: int) -> None:
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise LabError("trainable='lora' needs peft: pip install 'dpiqa-lab[lora]'.") from error
    # The second factor starts at 0: nothing changes before the first step.
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))
