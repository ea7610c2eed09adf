"""VAE, U-Net and pooled prompt embeddings of one latent diffusion model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..core.device import exact
from ..core.errors import LabError
from ..core.files import RememberedHash
from ..nn.matmul_conv2d import use_small_maps
from ..nn.upsampling import fold_upsampling
from .attention import share_prompts
from .prompts import prompt_texts


class Backbone(nn.Module):
    """A latent diffusion model of any width.

    Attributes:
        unet, vae: diffusers modules. The VAE is frozen.
        record: name, source, revision, whether the weights are random, the seed, and the source of
            weights that replace its own.
        default_prompts: prompt set of ``denoise(prompts=None)``.
    """

    # diffusers' classes do not declare the fields of their configurations.
    unet: Any
    vae: Any

    def __init__(
        self,
        unet: nn.Module,
        vae: nn.Module,
        embed: Callable[[Sequence[str], str], torch.Tensor],
        record: dict,
        default_prompts: str,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.vae = vae.requires_grad_(False)
        self.record = record
        self.default_prompts = default_prompts
        self._embed = embed
        self._embedded: dict[tuple, torch.Tensor] = {}
        self._unet_hash, self._vae_hash = RememberedHash(), RememberedHash()
        share_prompts(unet)
        fold_upsampling(unet)
        use_small_maps(unet)
        self._arrange()
        self.eval()

    def _apply(self, fn: Callable, recurse: bool = True) -> "Backbone":
        """``to`` and its kind, then the memory layout of the new device."""
        super()._apply(fn, recurse)
        self._arrange()
        return self

    def _arrange(self) -> None:
        # With channels last, convolutions of few channels take two thirds of the time on a CPU and
        # 1.17 times as long on a GPU, whose group norms convert to channels first and back.
        last = self.device.type == "cpu"
        layout = torch.channels_last if last else torch.contiguous_format
        self.vae.to(memory_format=layout)

    @property
    def name(self) -> str:
        """Preset, hub id or folder."""
        return self.record["name"]

    @property
    def device(self) -> torch.device:
        """Device of the U-Net."""
        return next(self.unet.parameters()).device

    @property
    def downscale(self) -> int:
        """Pixels per latent side, 8 for Stable Diffusion."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def multiple(self) -> int:
        """Image sides must be multiples of this many pixels, 64 for Stable Diffusion."""
        return self.downscale * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def check_size(self, height: int, width: int) -> None:
        """Raise LabError where an image of this size in pixels does not fit the U-Net."""
        if min(height, width) < self.multiple or height % self.multiple or width % self.multiple:
            raise LabError(
                f"images of {height}x{width} do not fit {self.name}: sides must be multiples of "
                f"{self.multiple}, at least {self.multiple} (set image_size)."
            )

    @torch.no_grad()
    def encode(
        self,
        images: torch.Tensor,
        vae_input: str = "[-1,1]",
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Latents of images.

        Args:
            images: (b, 3, h, w) in [0,1].
            vae_input: "[-1,1]" is what VAEs are trained on; "[0,1]" the authors' code feeds.
            noise: standard normal, (b, 4, h/8, w/8), for a sample of the posterior, mean +
                deviation * noise; ``None``: the mean.

        Returns:
            (b, 4, h/8, w/8) float32, multiplied by the VAE's scaling factor; computed in the
            precision of the autocast around the call, float32 without one.
        """
        self.check_size(*images.shape[-2:])
        x = images.to(self.device, torch.float32)
        x = x * 2 - 1 if vae_input == "[-1,1]" else x
        encoded = self.vae.encode(x)
        if hasattr(encoded, "latent_dist"):
            posterior = encoded.latent_dist
            latents = posterior.mean
            if noise is not None:
                latents = latents + posterior.std * noise.to(latents)
        elif noise is not None:
            raise LabError(f"the VAE of {self.name} has no posterior to sample from.")
        else:
            latents = encoded.latents
        return latents.float() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images (b, 3, h, w) in [0,1] of latents as ``encode`` gives them for "[-1,1]"."""
        with exact():
            images = self.vae.decode(latents.to(self.device) / self.vae.config.scaling_factor)
        return images.sample.add(1).div(2).clamp(0, 1)

    def embed_prompts(
        self, prompts: str | Sequence[str] | None = None, pooling: str = "eos"
    ) -> torch.Tensor:
        """Pooled embeddings of a prompt set, one sequence for every image: (1, K, d) float32.

        Computed once per backbone and cached on disk. ``None`` is the backbone's default set;
        ``pooling`` is "eos" or "mean", see ``text_embeddings``.
        """
        texts = tuple(prompt_texts(prompts or self.default_prompts))
        key = texts, pooling
        if key not in self._embedded:
            self._embedded[key] = self._embed(texts, pooling)[None]
        return self._embedded[key].to(self.device)

    def denoise(
        self,
        latents: torch.Tensor,
        timestep: int = 1,
        prompts: str | Sequence[str] | torch.Tensor | None = None,
        residuals: Sequence[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """One pass of the U-Net; features are read from it by ``FeatureTaps(bb.unet, ...)``.

        Args:
            latents: (b, 4, h, w), scaled.
            timestep: 0 to 999; the paper uses 1, with no noise added.
            prompts: a prompt set, or embeddings (1 or b, K, d).
            residuals: one feature map per down block, from the image adapter.

        Returns:
            The predicted noise, (b, 4, h, w).
        """
        embeddings = prompts if torch.is_tensor(prompts) else self.embed_prompts(prompts)
        return self.unet(
            latents,
            timestep,
            encoder_hidden_states=embeddings,
            # A copy, as diffusers pops from the list.
            down_intrablock_additional_residuals=None if residuals is None else list(residuals),
            return_dict=False,
        )[0]

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timestep: int) -> torch.Tensor:
        """Latents diffused to ``timestep`` with standard normal ``noise``."""
        signal = _alphas_cumprod()[timestep].to(latents)
        return signal.sqrt() * latents + (1 - signal).sqrt() * noise

    def unet_hash(self) -> str:
        """Hash of the U-Net's current weights; cheap while they do not change."""
        return self._unet_hash(self.unet.state_dict())

    def vae_hash(self) -> str:
        """Hash of the VAE's encoder and scale, which latents depend on."""
        encoder = {k: v for k, v in self.vae.state_dict().items() if not k.startswith("decoder")}
        return self._vae_hash({**encoder, "scale": torch.tensor(self.vae.config.scaling_factor)})

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.unet.parameters()) / 1e6
        return f"{describe_record(self.record)}: U-Net of {count:.2f} M parameters"


def _alphas_cumprod() -> torch.Tensor:
    """Fraction of the latents' variance left at each timestep: Stable Diffusion's schedule."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


def describe_record(record: dict) -> str:
    """A backbone in words; random weights are named as such."""
    weights = f" with RANDOM weights (seed {record['seed']})" if record["random_weights"] else ""
    revision = f" at {record['revision'][:12]}" if record["revision"] else ""
    if "weights" in record:
        weights = f" with the weights of {record['weights']}"
    return f"{record['name']}{revision}{weights}"
