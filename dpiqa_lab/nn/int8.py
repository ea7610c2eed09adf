"""Convolutions and matrix products in eight bits, on processors that multiply these faster.

torch's autocast knows no eight bits: this is the like of it, for evaluation alone. The kernels are
oneDNN's, as torch's own quantisation calls them.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from .matmul_conv2d import conv2d, output_sides
from .tensor_memo import memoized

# Of a layer: with fewer channels, or fewer rows a photograph, rounding costs more than it saves.
_CHANNELS, _ROWS = 32, 32
# Up to so many positions a convolution takes longer than the matrix product of its windows: at SD
# 1.5's widths 3.9 times as long with 8x8, 1.6 with 16x16, 1.1 with 32x32; at 64x64 less.
_SMALL = 32 * 32
# Numbers that are rounded at a time, so that they stay in the processor's cache.
_CHUNK = 2**17
_wanted: ContextVar[bool] = ContextVar("int8", default=True)  # by the innermost ``int8``
# How oneDNN is asked for plain float32 outputs: their scale and zero, type, and nothing after it.
_PLAIN = (1.0, 0, torch.float32, "none", [], "")


def int8_kernels() -> bool:
    """Whether torch has the kernels here; fast they are on processors with VNNI's instructions."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qconv_pointwise")


@contextlib.contextmanager
def int8(wanted: bool = True) -> Iterator[None]:
    """Within the block ``Int8``; or, where not ``wanted``, no int8, whatever surrounds it."""
    token = _wanted.set(wanted)
    try:
        # Not entered in vain: a mode costs time at each of torch's functions.
        with Int8() if wanted else contextlib.nullcontext():
            yield
    finally:
        _wanted.reset(token)


class Int8(TorchFunctionMode):
    """Within the block large layers run in int8 where no gradient is asked for.

    ``conv2d`` and ``linear`` of float32 on a CPU; all else, attention, norms and small layers,
    stays as it is. Weights are symmetric with a scale an output channel, rounded once a block of
    ``memoize_tensors``. Inputs have a scale and a zero of their own *for each photograph* (the
    first dimension), from its least to its largest value, so that a score does not depend on what
    shares its batch. Sums are exact, outputs float32. The rounded weights take a quarter of the
    others' memory on top of it.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        layer = func
        wanted = func in _LAYERS and _wanted.get() and not torch.is_grad_enabled()
        if wanted and _fits(*args[:2]):
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
    stride, padding, dilation = ([n, n] if isinstance(n, int) else list(n) for n in shape[:3])
    height, width = output_sides(x, weight, stride, padding)
    if height * width <= _SMALL and dilation == [1, 1] and groups == 1:
        product = _product(weight, bias)

        def eight_bits(values, scale, zero):
            windows = _windows(values, zero, weight.shape[2:], stride, padding)
            return product(windows, scale, zero).T.view(1, -1, height, width)
    else:
        *layer, packed = _rounded_weights(
            weight,
            "convolution",
            lambda values, scales: torch.ops.onednn.qconv_prepack(
                values, scales, 1.0, 0, stride, padding, dilation, groups, [1, *x.shape[1:]]
            ),
        )

        def eight_bits(values, scale, zero):
            pairs = stride, padding, dilation
            return torch.ops.onednn.qconv_pointwise(
                values, scale, zero, packed, *layer, bias, *pairs, groups, *_PLAIN
            )

    return _by_photograph(
        # The layout that oneDNN convolves eight-bit numbers in, and that windows are cut from.
        x.contiguous(memory_format=torch.channels_last),
        eight_bits,
        lambda part: F.conv2d(part, weight, bias, *shape),
    )


def _linear(x, weight, bias=None):
    return _by_photograph(
        x.contiguous(), _product(weight, bias), lambda part: F.linear(part, weight, bias)
    )


_LAYERS = {F.conv2d: _conv2d, conv2d: _conv2d, F.linear: _linear}


def _product(weight: torch.Tensor, bias: torch.Tensor | None) -> Callable:
    """Of rows of eight-bit numbers, their scale and zero: products with an output channel each.

    A convolution's rows are ordered as its weights are in the channels-last layout.
    """

    def pack(values: torch.Tensor, _) -> torch.Tensor:
        rows = values.permute(0, 2, 3, 1) if values.ndim == 4 else values
        return torch.ops.onednn.qlinear_prepack(rows.flatten(1).contiguous(), None)

    *layer, packed = _rounded_weights(weight, "product", pack)
    return lambda rows, scale, zero: torch.ops.onednn.qlinear_pointwise(
        rows, scale, zero, packed, *layer, bias, *_PLAIN
    )


def _windows(values, zero: int, kernel, stride, padding) -> torch.Tensor:
    """What a convolution sees at each position of one channels-last map: (positions, numbers)."""
    rows, columns = padding
    padded = F.pad(values, (columns, columns, rows, rows), value=zero)
    padded = padded.permute(0, 2, 3, 1).contiguous()[0]
    windows = padded.unfold(0, kernel[0], stride[0]).unfold(1, kernel[1], stride[1])
    return windows.permute(0, 1, 3, 4, 2).flatten(2).flatten(0, 1)


def _rounded_weights(weight: torch.Tensor, use: str, pack: Callable) -> tuple[torch.Tensor, ...]:
    """Scales and zeros of the output channels, and eight-bit weights packed for ``use``."""

    def make() -> tuple[torch.Tensor, ...]:
        flat = weight.detach().flatten(1)
        scales = flat.abs().amax(1).clamp_min(1e-12) / 127
        values = (flat / scales[:, None]).round().to(torch.int8).view(weight.shape)
        return scales, torch.zeros(len(scales), dtype=torch.int32), pack(values, scales)

    return memoized(weight, f"int8 {use}", make)


def _by_photograph(x: torch.Tensor, eight_bits: Callable, plain: Callable) -> torch.Tensor:
    """A layer's outputs, photograph by photograph; ``plain`` where a value is not finite."""
    each = map(_rounded, x.split(1))
    # Tokens' for the next layer too: queries, keys and values are of the same numbers. Maps' are
    # used up one by one, so that the next photograph's take the same memory.
    rounded = memoized(x, "int8", lambda: list(each)) if x.ndim == 3 else each
    parts = [
        plain(part) if found is None else eight_bits(*found)
        for part, found in zip(x.split(1), rounded, strict=True)
    ]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _rounded(x: torch.Tensor) -> tuple[torch.Tensor, float, int] | None:
    """Numbers as uint8 in the same layout, their scale and zero; None where one is not finite."""
    # As a line of numbers, in the order in which they lie: torch is several times as fast so.
    line = x.as_strided((x.numel(),), (1,))
    low, high = (value.item() for value in line.aminmax())
    low, high = min(low, 0.0), max(high, 0.0)
    if not math.isfinite(high - low):
        return None
    scale = (high - low) / 255 or 1.0
    # Down, so that no number ends above 255: the last conversion would wrap it.
    zero = math.floor(-low / scale)
    values = torch.empty_like(x, dtype=torch.uint8)
    to = values.as_strided((values.numel(),), (1,))
    # Rounded towards 0 by the conversion, hence the half. By way of 16 bits, as torch takes four
    # times as long to turn float32 into uint8 at once.
    half = torch.tensor(zero + 0.5)
    for source, target in zip(line.split(_CHUNK), to.split(_CHUNK), strict=True):
        target.copy_(torch.add(half, source, alpha=1 / scale).to(torch.int16))
    return values, scale, zero
