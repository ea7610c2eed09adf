"""Cross-attention whose keys and values are computed once for all photographs of a batch.

The prompts are the same for every photograph, so their (1, K, d) sequence is projected once and
then shared, where the usual processor would project it for each photograph.
"""

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import nn


class SharedPromptAttention:
    """Attention processor for ``UNet2DConditionModel``; prompts may have a batch size of one."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **_,
    ) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = split_heads(attn.to_q(hidden_states), attn.heads)
        key = split_heads(attn.to_k(context), attn.heads)
        value = split_heads(attn.to_v(context), attn.heads)
        if len(key) != len(query):
            key, value = (x.expand(len(query), -1, -1, -1) for x in (key, value))
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        out = out.transpose(1, 2).flatten(2)
        dense, dropout = attn.to_out
        return dropout(dense(out))


def share_prompts(unet: nn.Module) -> None:
    """Make every attention of ``unet`` accept one prompt sequence for a whole batch."""
    unet.set_attn_processor(SharedPromptAttention())


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(b, n, heads * d) to (b, heads, n, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
