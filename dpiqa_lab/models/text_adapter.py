"""Text adapter: fits the prompt embeddings to the task (paper section 3.3)."""

import torch
from torch import nn


class TextAdapter(nn.Module):
    """embeddings + gamma * MLP(embeddings), gamma a learnt vector that starts at 1e-4.

    Args:
        width: size d of an embedding (768 for SD 1.5: 1.18 M parameters).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.gamma = nn.Parameter(torch.full((width,), 1e-4))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(b, K, d) to (b, K, d)."""
        return embeddings + self.gamma * self.fc(embeddings)
