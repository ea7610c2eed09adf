"""Convolutions and matrix products in eight bits, on processors that multiply these faster.

torch's autocast knows no eight bits: this is the like of it, for evaluation alone. The kernels are
oneDNN's, as torch's own quantisation calls them.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

# Of a layer: with fewer channels, or fewer rows a photograph, rounding costs more than it saves.
_CHANNELS, _ROWS = 32, 32
# Numbers that are rounded at a time, so that they stay in the processor's cache.
_CHUNK = 2**17
# How oneDNN is asked for plain float32 outputs: their scale and zero, type, and nothing after it.
_PLAIN = (1.0, 0, torch.float32, "none", [], "")

# Packed weights by the layer's own, with the version that these had: a step of training makes them
# new. They go when the layer goes.
_packed = WeakIdKeyDictionary()


def int8_kernels() -> bool:
    """Whether torch has the kernels here; fast they are on processors with VNNI's instructions."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qconv_pointwise")


class Int8(TorchFunctionMode):
    """Within the block large layers run in int8 where no gradient is asked for.

    ``conv2d`` and ``linear`` of float32 on a CPU; all else, attention, norms and small layers,
    stays as it is. Weights are symmetric with a scale an output channel, rounded once for as long
    as they stay the same. Inputs have a scale and a zero of their own *for each photograph* (the
    first dimension), from its least to its largest value, so that a score does not depend on what
    shares its batch. Sums are exact, outputs float32. The rounded weights take a quarter of the
    others' memory on top of it.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        layer = func
        if func in _LAYERS and not torch.is_grad_enabled() and _fits(*args[:2]):
            layer = _LAYERS[func]
        return layer(*args, **(kwargs or {}))


def _fits(x: torch.Tensor | None = None, weight: torch.Tensor | None = None) -> bool:
    """Whether these, a layer's first arguments as torch's modules give them, are worth rounding."""
    if x is None or weight is None or x.ndim != (4 if weight.ndim == 4 else 3):
        return False
    channels = x.shape[1] if weight.ndim == 4 else x.shape[-1]
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        # A convolution in groups has few channels in each.
        and min(weight.shape[:2]) >= _CHANNELS
        and x.numel() >= _ROWS * len(x) * channels > 0
    )


def _conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    shape = stride, padding, dilation, groups
    if isinstance(padding, str):  # "same", which these kernels do not know
        return F.conv2d(x, weight, bias, *shape)
    pairs = [[n, n] if isinstance(n, int) else list(n) for n in shape[:3]]
    *layer, packed = _rounded_weights(
        weight,
        lambda values, scales: torch.ops.onednn.qconv_prepack(
            values, scales, 1.0, 0, *pairs, groups, [1, *x.shape[1:]]
        ),
    )
    return _by_photograph(
        # The layout that oneDNN convolves eight-bit numbers in.
        x.contiguous(memory_format=torch.channels_last),
        lambda values, *scale: torch.ops.onednn.qconv_pointwise(
            values, *scale, packed, *layer, bias, *pairs, groups, *_PLAIN
        ),
        lambda part: F.conv2d(part, weight, bias, *shape),
    )


def _linear(x, weight, bias=None):
    *layer, packed = _rounded_weights(
        weight, lambda values, _: torch.ops.onednn.qlinear_prepack(values, None)
    )
    return _by_photograph(
        x.contiguous(),
        lambda values, *scale: torch.ops.onednn.qlinear_pointwise(
            values, *scale, packed, *layer, bias, *_PLAIN
        ),
        lambda part: F.linear(part, weight, bias),
    )


_LAYERS = {F.conv2d: _conv2d, F.linear: _linear}


def _rounded_weights(weight: torch.Tensor, pack: Callable) -> tuple[torch.Tensor, ...]:
    """Scales and zeros of the output channels, and packed eight-bit weights."""
    version, found = _packed.get(weight, (None, ()))
    if version != weight._version:
        flat = weight.detach().flatten(1)
        scales = flat.abs().amax(1).clamp_min(1e-12) / 127
        values = (flat / scales[:, None]).round().to(torch.int8).view(weight.shape)
        found = scales, torch.zeros(len(scales), dtype=torch.int32), pack(values, scales)
        _packed[weight] = weight._version, found
    return found


def _by_photograph(x: torch.Tensor, eight_bits: Callable, plain: Callable) -> torch.Tensor:
    """A layer's outputs, photograph by photograph; ``plain`` where a value is not finite."""
    parts = []
    for part in x.split(1):
        # As a line of numbers, in the order in which they lie: torch is several times as fast so.
        line = part.as_strided((part.numel(),), (1,))
        low, high = (value.item() for value in line.aminmax())
        low, high = min(low, 0.0), max(high, 0.0)
        if not math.isfinite(high - low):
            parts.append(plain(part))
            continue
        scale = (high - low) / 255 or 1.0
        zero = round(-low / scale)
        values = torch.empty_like(part, dtype=torch.uint8)
        to = values.as_strided((values.numel(),), (1,))
        for source, target in zip(line.split(_CHUNK), to.split(_CHUNK), strict=True):
            # Rounded down by the conversion, hence the half.
            target.copy_((source * (1 / scale)).add_(zero + 0.5).clamp_(0, 255))
        parts.append(eight_bits(values, scale, zero))
    return torch.cat(parts) if len(parts) > 1 else parts[0]
