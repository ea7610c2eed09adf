"""Cross-attention whose keys and values are computed once for all photographs.

The prompts are the same for every photograph, so their (1, K, d) sequence is projected once for a
batch and then shared, where the usual processor would project it for each photograph. Where neither
prompts nor weights change, ``fixed_prompts`` keeps the projections from batch to batch.
"""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import nn


class SharedPromptAttention:
    """Attention processor for ``UNet2DConditionModel``; prompts may have a batch size of one.

    Each attention needs one of its own. ``keep``: set by ``fixed_prompts``.
    """

    def __init__(self):
        self.keep = False
        self._kept: tuple[torch.Tensor, ...] | None = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **_,
    ) -> torch.Tensor:
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
        """Forget what was kept."""
        self._kept = None

    def _of_prompts(self, attn: Attention, prompts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if not self.keep or torch.is_grad_enabled():
            return _keys_and_values(attn, prompts)
        # The very same tensor: it is held here, so no other can have taken its place.
        if self._kept is None or self._kept[0] is not prompts:
            self.hold(attn, prompts)
        return self._kept[1:]


def share_prompts(unet: nn.Module) -> None:
    """Make every attention of ``unet`` accept one prompt sequence for a whole batch."""
    unet.set_attn_processor({name: SharedPromptAttention() for name in unet.attn_processors})


@contextlib.contextmanager
def fixed_prompts(unet: nn.Module, prompts: torch.Tensor | None = None) -> Iterator[None]:
    """Within the block each cross-attention projects a tensor of prompts once, without gradients.

    Whoever opens the block sees to it that weights, prompts and precision stay the same in it.
    Nothing is kept beyond its end, so nothing kept can be out of date. In a block within another,
    the outer one's projections serve.

    Args:
        prompts: to be projected at once, so that a compiled pass finds them; ``None``: those that
            come are, when they come.
    """
    found = [m for m in unet.modules() if isinstance(m, Attention)]
    mine = [m for m in found if isinstance(m.processor, SharedPromptAttention)]
    mine = [m for m in mine if not m.processor.keep]
    try:
        for attention in mine:
            attention.processor.keep = True
            if prompts is not None and attention.is_cross_attention:
                attention.processor.hold(attention, prompts)
        yield
    finally:
        for attention in mine:
            attention.processor.keep = False
            attention.processor.drop()


def attended(
    attn: Attention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """What an attention gives, (b, n, c), of its projections (b or 1, heads, n, d)."""
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
