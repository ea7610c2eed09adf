"""Cross-attention maps as taps, summed over prompts that share a factor.

Fused attention keeps no maps, so an explicit processor replaces it while they are needed. Each
processor has a module ``maps``, whose path works like any other tap.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from ..core.errors import LabError
from .attention import attended, split_heads
from .backbone import Backbone
from .prompts import FACTORS, factor_members, prompt_texts
from .taps import block_taps

_MAPS = ".processor.maps"


def map_taps(unet: nn.Module) -> list[str]:
    """Paths of every cross-attention's maps, in the order they run; see AttentionMaps."""
    return [
        f"{block}.{name}{_MAPS}"
        for block in block_taps(unet)
        for name, module in unet.get_submodule(block).named_modules()
        if isinstance(module, Attention) and module.is_cross_attention
    ]


def is_map(tap: str) -> bool:
    """Whether a tap is the maps of a cross-attention."""
    return tap.endswith(_MAPS)


class MappedPromptAttention(nn.Module):
    """``SharedPromptAttention`` that also computes softmax's weights.

    The pass itself is bitwise the same: features do not depend on whether maps are computed.

    The output of ``maps`` is (b, positions, F) float32: the share of a position's attention, mean
    over the heads, that goes to the prompts of each factor. It takes b x heads x positions x K
    numbers while it runs: use small batches at full size.

    Args:
        members: (K, F) bool, see ``prompts.factor_members``.
    """

    def __init__(self, members: torch.Tensor) -> None:
        super().__init__()
        self.members: torch.Tensor
        self.register_buffer("members", members.float(), persistent=False)
        self.maps = nn.Identity()

    def forward(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(b, positions, c) and prompts (1 or b, K, d) to (b, positions, c)."""
        if encoder_hidden_states.shape[1] != len(self.members):
            raise LabError(
                f"attention maps were asked for {len(self.members)} prompts, the pass is guided by "
                f"{encoder_hidden_states.shape[1]}: give both the same prompt set."
            )
        query = split_heads(attn.to_q(hidden_states), attn.heads)
        key = split_heads(attn.to_k(encoder_hidden_states), attn.heads)
        value = split_heads(attn.to_v(encoder_hidden_states), attn.heads)
        self.maps(self._shares(query, key, attention_mask))
        return attended(attn, query, key, value, attention_mask)

    def _shares(
        self, query: torch.Tensor, key: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        if attention_mask is not None:
            scores = scores + attention_mask
        weights = scores.float().softmax(-1)
        with torch.autocast(weights.device.type, enabled=False):
            return weights.mean(1) @ self.members


class AttentionMaps:
    """Context manager that makes cross-attention maps available as taps.

    >>> with AttentionMaps(backbone, factors=["blur", "bad"]) as maps:
    ...     with FeatureTaps(backbone.unet, maps.taps) as taps:
    ...         backbone.denoise(latents)
    >>> taps[maps.taps[0]].shape  # (b, positions, 2)

    Args:
        backbone: its U-Net is tapped.
        prompts: prompt set of the pass; ``None`` is the backbone's default.
        factors: words; each sums the attention to the prompts that contain it. ``None``: every
            prompt separately.
        taps: which maps, as ``map_taps`` names them; ``None`` is all.

    Attributes:
        taps: paths of the available maps. factors: names of the maps' last dimension.
        even: fraction of the prompts of each factor: its share under uniform attention.

    Raises:
        LabError: a factor that no prompt contains.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: str | Sequence[str] | None = None,
        factors: Sequence[str] | None = FACTORS,
        taps: Sequence[str] | None = None,
    ) -> None:
        texts = prompt_texts(prompts or backbone.default_prompts)
        if factors is None:
            self.factors, members = texts, torch.eye(len(texts))
        else:
            self.factors = list(factors)
            members = torch.from_numpy(factor_members(texts, factors))
        self.even = members.float().mean(0)
        self.taps = [tap for tap in map_taps(backbone.unet) if taps is None or tap in taps]
        self._members = members
        self._unet = backbone.unet
        self._before: list[tuple[Attention, Any]] = []

    def __enter__(self) -> "AttentionMaps":
        for tap in self.taps:
            attention = self._unet.get_submodule(tap.removesuffix(_MAPS))
            assert isinstance(attention, Attention)
            self._before.append((attention, attention.processor))
            device = attention.to_q.weight.device
            processor: Any = MappedPromptAttention(self._members).to(device)
            attention.set_processor(processor)
        return self

    def __exit__(self, *error: object) -> None:
        for attention, processor in self._before:
            attention.set_processor(processor)
        self._before.clear()


def attention_maps_of(
    backbone: Backbone,
    taps: Sequence[str],
    prompts: str | Sequence[str] | None = None,
    factors: Sequence[str] = FACTORS,
) -> contextlib.AbstractContextManager:
    """``AttentionMaps`` for the maps among ``taps``; does nothing where there are none."""
    if any(is_map(tap) for tap in taps):
        return AttentionMaps(backbone, prompts, factors, taps)
    return contextlib.nullcontext()
