"""Vision models of transformers as trunks: feature maps, whether the model has maps or tokens."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..core.errors import LabError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TransformersTrunk(nn.Module):
    """A model of transformers from its configuration, with random weights.

    Args:
        kind: transformers' name of the architecture, such as "convnext", "mobilenet_v2", "dinov2".
        options: of its configuration.
    """

    def __init__(self, kind: str, **options: object) -> None:
        from transformers import AutoConfig, AutoModel

        super().__init__()
        self.model: Any = AutoModel.from_config(AutoConfig.for_model(kind, **options))
        config = self.model.config
        self.patch = getattr(config, "patch_size", None) if kind.startswith("dinov2") else None
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            self.channels = self.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
        self.train()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (b, 3, h, w) to features (b, channels, h', w'); of tokens those of patches."""
        found = self.model(pixel_values=images).last_hidden_state
        if self.patch is None:
            return found
        height, width = (side // self.patch for side in images.shape[-2:])
        # Class and register tokens come first.
        patches = found[:, found.shape[1] - height * width :]
        return patches.transpose(1, 2).unflatten(2, (height, width))


def load_hub_model(source: str, revision: str | None = None) -> "PreTrainedModel":
    """A pretrained model of transformers, from the hub or a folder; safetensors alone.

    Args:
        revision: of the hub; ``None`` is the newest, and a warning says which that is.

    Raises:
        LabError: it cannot be had, or lacks some of its weights.
    """
    from transformers import AutoModel

    try:
        model, info = AutoModel.from_pretrained(
            source, revision=revision, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise LabError(
            f"cannot load trunk weights from {source}: {str(error).splitlines()[0][:300]} Give a "
            "folder as transformers saves models, with safetensors, or trunk_weights='none'."
        ) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise LabError(f"{source} lacks {len(missing)} of the model's weights: {missing[0]}, …")
    if revision is None and not Path(source).is_dir():
        newest = getattr(model.config, "_commit_hash", None)
        warnings.warn(
            f"weights of {source} are its newest revision, {newest}, and may change: pin them by "
            f"trunk_weights='hub@{newest}'.",
            stacklevel=4,
        )
    return model
