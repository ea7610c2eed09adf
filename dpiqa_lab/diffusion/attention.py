"""Cross-attention whose keys and values are computed once for all images.

The prompts are the same for every image, so their (1, K, d) sequence is projected once per batch,
where the usual processor projects it once per image. Where neither prompts nor weights change,
``fixed_prompts`` reuses the projections from batch to batch.
"""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import nn


class SharedPromptAttention:
    """Attention processor for ``UNet2DConditionModel``; prompts may have a batch size of one.

    Each attention needs its own instance. ``keep``: set by ``fixed_prompts``.
    """

    def __init__(self) -> None:
        self.keep = False
        self._kept: tuple[torch.Tensor, ...] | None = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **_: object,
    ) -> torch.Tensor:
        """See diffusers' ``AttnProcessor2_0``; (b, n, c) to (b, n, c)."""
        query = split_heads(attn.to_q(hidden_states), attn.heads)
        if encoder_hidden_states is None:
            key, value = _keys_and_values(attn, hidden_states)
        else:
            key, value = self._of_prompts(attn, encoder_hidden_states)
        return attended(attn, query, key, value, attention_mask)

    def hold(self, attn: Attention, prompts: torch.Tensor) -> None:
        """Keep the projections of ``prompts``."""
        self._kept = prompts, *_keys_and_values(attn, prompts)

    def drop(self) -> None:
        """Discard the projections."""
        self._kept = None

    def _of_prompts(self, attn: Attention, prompts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if not self.keep or torch.is_grad_enabled():
            return _keys_and_values(attn, prompts)
        # Compared by identity: the tensor is held here, so its address cannot be reused.
        if self._kept is None or self._kept[0] is not prompts:
            self.hold(attn, prompts)
        assert self._kept is not None
        return self._kept[1:]


def share_prompts(unet: UNet2DConditionModel) -> None:
    """Make every attention of ``unet`` accept one prompt sequence for a whole batch."""
    unet.set_attn_processor({name: SharedPromptAttention() for name in unet.attn_processors})


@contextlib.contextmanager
def fixed_prompts(unet: nn.Module, prompts: torch.Tensor | None = None) -> Iterator[None]:
    """Within the block each cross-attention projects a tensor of prompts once, without gradients.

    Weights, prompts and precision must not change within the block. Projections are discarded at
    its end; a nested block uses those of the outer one.

    Args:
        prompts: projected immediately, as a compiled pass needs; ``None``: projected at first use.
    """
    opened = [
        (module, module.processor)
        for module in unet.modules()
        if isinstance(module, Attention)
        and isinstance(module.processor, SharedPromptAttention)
        and not module.processor.keep
    ]
    try:
        for attention, processor in opened:
            processor.keep = True
            if prompts is not None and attention.is_cross_attention:
                processor.hold(attention, prompts)
        yield
    finally:
        for _, processor in opened:
            processor.keep = False
            processor.drop()


def attended(
    attn: Attention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Output (b, n, c) of an attention from its projections (b or 1, heads, n, d)."""
    if len(key) != len(query):
        key, value = (x.expand(len(query), -1, -1, -1) for x in (key, value))
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
    out = out.transpose(1, 2).flatten(2)
    dense, dropout = attn.to_out
    return dropout(dense(out))


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(b, n, heads * d) to (b, heads, n, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _keys_and_values(attn: Attention, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    key, value = attn.to_k(context), attn.to_v(context)
    return split_heads(key, attn.heads), split_heads(value, attn.heads)
