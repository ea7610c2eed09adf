"""Plain implementation of the method, the reference for speed comparisons."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.upsampling import Upsample2D

from ..diffusion.taps import FeatureTaps
from ..models.image_scorer import ModelOutput
from ..models.quality_feature_decoder import MAP_SIZE
from ..models.teacher import Teacher
from ..nn.matmul_conv2d import SmallMapConv2d
from ..nn.replacement import conv_like, replace_modules
from ..nn.upsampling import FoldedUpsample2D, upsample_like


class PlainReference:
    """The published pipeline with a teacher's weights, without the lab's optimisations.

    Only prompt embeddings are cached. VAE, adapters and cross-attention keys and values are
    computed for each image, timestep and layer; the U-Net runs to its end; maps are resized by
    torch's bicubic filter. Use within ``layout``. Outputs equal the teacher's up to rounding.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    @contextlib.contextmanager
    def layout(self) -> Iterator[None]:
        """Contiguous weights and diffusers' modules, restored on exit."""
        backbone = self.teacher.backbone
        parts = backbone.unet, backbone.vae
        before = dict(backbone.unet.attn_processors)
        formats = [_format(part) for part in parts]
        backbone.unet.set_attn_processor(AttnProcessor2_0())
        for part in parts:
            part.to(memory_format=torch.contiguous_format)
        ours = replace_modules(self.teacher, _usual)
        try:
            yield
        finally:
            for parent, name, module in ours:
                setattr(parent, name, module)
            backbone.unet.set_attn_processor(before)
            for part, layout in zip(parts, formats, strict=True):
                part.to(memory_format=layout)

    def forward(self, images: torch.Tensor) -> ModelOutput:
        """Score and feature map of images (b, 3, h, w) in [0,1]."""
        teacher = self.teacher
        features, residuals = self._pass(images, teacher.timestep, teacher.taps)
        decoder, levels = teacher.quality_feature_decoder, [features[tap] for tap in teacher.taps]
        fitted = [
            level(F.interpolate(x, (MAP_SIZE, MAP_SIZE), mode="bicubic", align_corners=False))
            for level, x in zip(decoder.levels, levels, strict=True)
        ]
        feature_map = decoder.to_map(decoder.fuse(torch.cat(fitted, 1)))
        if decoder.head == "pooled":
            read = [*levels, *(residuals or []), feature_map]
            return ModelOutput(decoder.regressor(*read)[:, 0], feature_map)
        return ModelOutput(decoder.regressor(feature_map), feature_map)

    @torch.no_grad()
    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (b,) of images (b, 3, h, w), processed singly."""
        self.teacher.eval()
        return torch.cat([self.forward(image[None]).score for image in images])

    @torch.no_grad()
    def features(
        self, images: torch.Tensor, timesteps: Sequence[int], taps: Sequence[str]
    ) -> dict[tuple[int, str], torch.Tensor]:
        """Means over positions, (b, channels), by timestep and tap, a whole pass per timestep."""
        self.teacher.eval()
        rows: dict[tuple[int, str], list[torch.Tensor]] = {
            (timestep, tap): [] for timestep in timesteps for tap in taps
        }
        for image in images:
            for timestep in timesteps:
                found, _ = self._pass(image[None], timestep, taps, adapters=False)
                for tap in taps:
                    rows[timestep, tap].append(found[tap].float().mean((2, 3)))
        return {place: torch.cat(means) for place, means in rows.items()}

    def _pass(
        self, images: torch.Tensor, timestep: int, taps: Sequence[str], adapters: bool = True
    ) -> tuple[FeatureTaps, list[torch.Tensor] | None]:
        """Taps and image adapter outputs of VAE, adapters and the whole U-Net."""
        teacher = self.teacher
        prompts, residuals = teacher.prompt_embeddings, None
        if adapters and teacher.text_adapter:
            prompts = teacher.text_adapter(prompts)
        if adapters and teacher.image_adapter:
            residuals = teacher.image_adapter(images)
        prompts = prompts.expand(len(images), -1, -1)
        with FeatureTaps(teacher.backbone.unet, taps) as found:
            teacher.backbone.denoise(teacher.encode(images), timestep, prompts, residuals)
        return found, residuals


def _usual(module: torch.nn.Module) -> torch.nn.Module | None:
    """What diffusers has in the place of one of the lab's modules, with the same weights."""
    if isinstance(module, SmallMapConv2d):
        return conv_like(torch.nn.Conv2d, module)
    if isinstance(module, FoldedUpsample2D):
        return upsample_like(Upsample2D, torch.nn.Conv2d, module)
    return None


def _format(module: torch.nn.Module) -> torch.memory_format:
    weights = [p for p in module.parameters() if p.ndim == 4 and min(p.shape[1:3]) > 1]
    last = all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    return torch.channels_last if last else torch.contiguous_format
