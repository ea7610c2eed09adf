"""ResNets by name (He et al. 2016): the trunk of both peers, on transformers' implementation.

The stride of a bottleneck is in its 3x3 convolution, as in torchvision's weights and in Re-IQA's.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.errors import LabError, listing, unknown
from ..core.identity import files_input
from .trainable import misfits
from .trunks import IMAGENET

# Kind of block, channels of the stem and of the four stages, blocks a stage.
VARIANTS = {
    "resnet_tiny": ("basic", 16, (16, 32, 64, 128), (1, 1, 1, 1)),
    "resnet18": ("basic", 64, (64, 128, 256, 512), (2, 2, 2, 2)),
    "resnet34": ("basic", 64, (64, 128, 256, 512), (3, 4, 6, 3)),
    "resnet50": ("bottleneck", 64, (256, 512, 1024, 2048), (3, 4, 6, 3)),
}
HUB = "microsoft/resnet-{}"
# Of the hub, by variant; without one the newest is taken.
_REVISIONS = {
    "resnet18": "65a5785d9156231087c481e0c7dd33a5ff6f7e3e",
    "resnet50": "34c2154c194f829b11125337b98c8f5f9965ff19",
}
# torchvision's names of a trunk's tensors and transformers' for the same, applied in this order.
_NAMES = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (r"^layer(\d)\.(\d+)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}."),
    (r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution."),
    (r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization."),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
)


class ResNet(nn.Module):
    """Images (b, 3, h, w) to the four stages' outputs, at h/4, h/8, h/16 and h/32.

    Args:
        variant: "resnet_tiny" (0.3 M parameters) to "resnet50" (23.5 M).
        weights: "hub" for ImageNet's from the Hugging Face hub, a folder with the same, or None.

    Raises:
        LabError: an unknown variant, weights that cannot be had, or those of another variant.
    """

    def __init__(self, variant: str = "resnet50", weights: str | None = None) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetModel

        if variant not in VARIANTS:
            raise unknown("trunk", variant, VARIANTS)
        kind, stem, self.channels, depths = VARIANTS[variant]
        self.variant = variant
        self.model = ResNetModel(
            ResNetConfig(
                embedding_size=stem, hidden_sizes=self.channels, depths=depths, layer_type=kind
            )
        )
        if weights is not None:
            self.model.load_state_dict(_imagenet_state(variant, weights, self.model.state_dict()))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See the class."""
        return self.model(images, output_hidden_states=True).hidden_states[1:]

    def load_torchvision(self, state: dict[str, torch.Tensor], source: Path | str) -> None:
        """Take weights under torchvision's names (``conv1.weight``, ``layer1.0.bn1.weight``).

        Raises:
            LabError: names or shapes differ; ``source`` and the differences are in the message.
        """
        renamed = {}
        for name, value in state.items():
            for pattern, replacement in _NAMES:
                name = re.sub(pattern, replacement, name)
            renamed[name] = value
        _refuse(self.model.state_dict(), renamed, source, self.variant)
        self.model.load_state_dict(renamed)


def imagenet_normalised(images: torch.Tensor) -> torch.Tensor:
    """Images (b, 3, h, w) in [0,1] less ImageNet's mean, in units of its deviation."""
    mean, deviation = (images.new_tensor(v).view(3, 1, 1) for v in IMAGENET)
    return (images - mean) / deviation


def resnet_input(variant: str, weights: str) -> dict:
    """Which weights ``ResNet(variant, weights)`` takes, for a run's record."""
    if weights == "hub":
        source = HUB.format(variant.removeprefix("resnet"))
        return {"source": source, "revision": _REVISIONS.get(variant)}
    return files_input(weights)


def _imagenet_state(variant: str, weights: str, own: dict) -> dict[str, torch.Tensor]:
    from transformers import ResNetModel

    if weights == "hub" and variant == "resnet_tiny":
        raise LabError(
            "trunk 'resnet_tiny' has no ImageNet weights; use resnet18, or weights=None."
        )
    folder = Path(weights).expanduser()
    if weights != "hub" and not (folder / "config.json").is_file():
        raise LabError(
            f"weights={weights!r}: no folder with a config.json; give one that transformers "
            "wrote, 'hub', or None."
        )
    source: str = str(folder)
    revision: Any = None
    if weights == "hub":
        source, revision = HUB.format(variant.removeprefix("resnet")), _REVISIONS.get(variant)
    try:
        loaded: Any = ResNetModel.from_pretrained(
            source, revision=revision, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError) as error:
        cause = str(error).splitlines()[0][:200]
        raise LabError(f"ImageNet weights of {variant} from {source}: {cause}") from error
    model, info = loaded
    # Those that the file lacks would be random.
    state = {k: v for k, v in model.state_dict().items() if k not in info["missing_keys"]}
    _refuse(own, state, source, variant)
    return state


def _refuse(own: dict, state: dict, source: Path | str, variant: str) -> None:
    if problems := misfits(own, state):
        raise LabError(f"{source}: weights do not fit a {variant}:\n{listing(problems)}")
