"""Convolutions and matrix products in eight bits, on processors that multiply these faster.

The counterpart of torch's autocast for int8, for evaluation only. The kernels are oneDNN's, as
called by torch's own quantisation.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from .matmul_conv2d import Pair, conv2d, output_sides
from .tensor_memo import memoized

# Layers with fewer channels, or fewer rows per image, lose more time by rounding than they gain.
_CHANNELS, _ROWS = 32, 32
# Up to this number of positions a convolution is slower than the matrix product of its windows: at
# SD 1.5's widths by 3.9 for 8x8, 1.6 for 16x16, 1.1 for 32x32; faster at 64x64.
_SMALL = 32 * 32
# Numbers rounded at a time, so that they fit in the processor's cache.
_CHUNK = 2**17
_wanted: ContextVar[bool] = ContextVar("int8", default=True)  # by the innermost ``int8``
# Requests plain float32 outputs from oneDNN: scale, zero point, type, no operation fused after.
_PLAIN: tuple = (1.0, 0, torch.float32, "none", [], "")


def int8_kernels() -> bool:
    """Whether this torch has the kernels; they are fast on processors with VNNI instructions."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qconv_pointwise")


@contextlib.contextmanager
def int8(wanted: bool = True) -> Iterator[None]:
    """Context of ``Int8``; if not ``wanted``, of no int8. Overrides outer contexts."""
    token = _wanted.set(wanted)
    try:
        # Entered only when needed: a mode costs time at every torch function.
        with Int8() if wanted else contextlib.nullcontext():
            yield
    finally:
        _wanted.reset(token)


class Int8(TorchFunctionMode):
    """Context in which large layers run in int8 when gradients are off.

    Applies to ``conv2d`` and ``linear`` of float32 on a CPU; attention, norms and small layers are
    unchanged. Weights are symmetric with one scale per output channel, rounded once per
    ``memoize_tensors`` context; they take an additional quarter of the weights' memory. Inputs have
    a scale and a zero point *per image* (the first dimension), from the image's smallest to its
    largest value, so that a score does not depend on the other images of the batch. Sums are exact,
    outputs float32.
    """

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        layer = func
        wanted = func in _LAYERS and _wanted.get() and not torch.is_grad_enabled()
        if wanted and _fits(*args[:2]):
            layer = _LAYERS[func]
        return layer(*args, **(kwargs or {}))


def _fits(x: torch.Tensor | None = None, weight: torch.Tensor | None = None) -> bool:
    """Whether a layer with these first arguments is worth rounding."""
    if x is None or weight is None or x.ndim != (4 if weight.ndim == 4 else 3):
        return False
    channels = x.shape[1] if weight.ndim == 4 else x.shape[-1]
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        # A grouped convolution has few channels per group.
        and min(weight.shape[:2]) >= _CHANNELS
        and x.numel() >= _ROWS * len(x) * channels > 0
    )


def _conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> torch.Tensor:
    plain = functools.partial(
        F.conv2d, weight=weight, bias=bias, stride=stride, padding=padding, dilation=dilation,
        groups=groups,
    )  # fmt: skip
    if isinstance(padding, str):  # "same", which these kernels do not support
        return plain(x)
    steps, pads, gaps = (
        [n, n] if isinstance(n, int) else list(n) for n in (stride, padding, dilation)
    )
    height, width = output_sides(x, weight, steps, pads)
    if height * width <= _SMALL and gaps == [1, 1] and groups == 1:
        product = _product(weight, bias)

        def eight_bits(values: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
            windows = _windows(values, zero, weight.shape[2:], steps, pads)
            return product(windows, scale, zero).T.view(1, -1, height, width)
    else:
        *layer, packed = _rounded_weights(
            weight,
            "convolution",
            lambda values, scales: torch.ops.onednn.qconv_prepack(
                values, scales, 1.0, 0, steps, pads, gaps, groups, [1, *x.shape[1:]]
            ),
        )

        def eight_bits(values: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
            return torch.ops.onednn.qconv_pointwise(
                values, scale, zero, packed, *layer, bias, steps, pads, gaps, groups, *_PLAIN
            )

    # The layout of oneDNN's eight-bit convolutions, from which windows are cut, too.
    return _by_image(x.contiguous(memory_format=torch.channels_last), eight_bits, plain)


def _linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    return _by_image(
        x.contiguous(), _product(weight, bias), lambda part: F.linear(part, weight, bias)
    )


_LAYERS = {F.conv2d: _conv2d, conv2d: _conv2d, F.linear: _linear}


def _product(weight: torch.Tensor, bias: torch.Tensor | None) -> Callable:
    """A function from uint8 rows, their scale and zero point to their products with ``weight``.

    A convolution's rows are in the order of its weights in the channels-last layout.
    """

    def pack(values: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        rows = values.permute(0, 2, 3, 1) if values.ndim == 4 else values
        return torch.ops.onednn.qlinear_prepack(rows.flatten(1).contiguous(), None)

    *layer, packed = _rounded_weights(weight, "product", pack)
    return lambda rows, scale, zero: torch.ops.onednn.qlinear_pointwise(
        rows, scale, zero, packed, *layer, bias, *_PLAIN
    )


def _windows(
    values: torch.Tensor,
    zero: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> torch.Tensor:
    """The windows of a convolution over one channels-last map: (positions, numbers)."""
    rows, columns = padding
    padded = F.pad(values, (columns, columns, rows, rows), value=zero)
    padded = padded.permute(0, 2, 3, 1).contiguous()[0]
    windows = padded.unfold(0, kernel[0], stride[0]).unfold(1, kernel[1], stride[1])
    return windows.permute(0, 1, 3, 4, 2).flatten(2).flatten(0, 1)


def _rounded_weights(weight: torch.Tensor, use: str, pack: Callable) -> tuple[torch.Tensor, ...]:
    """Scales and zero points of the output channels, and int8 weights packed for ``use``."""

    def make() -> tuple[torch.Tensor, ...]:
        flat = weight.detach().flatten(1)
        scales = flat.abs().amax(1).clamp_min(1e-12) / 127
        values = (flat / scales[:, None]).round().to(torch.int8).view(weight.shape)
        return scales, torch.zeros(len(scales), dtype=torch.int32), pack(values, scales)

    return memoized(weight, f"int8 {use}", make)


def _by_image(x: torch.Tensor, eight_bits: Callable, plain: Callable) -> torch.Tensor:
    """A layer's outputs, image by image; by ``plain`` where a value is not finite."""
    each = map(_rounded, x.split(1))
    # Rounded tokens are memoized: queries, keys and values share them. Rounded maps are consumed
    # one by one, so that the next image reuses the memory.
    rounded = memoized(x, "int8", lambda: list(each)) if x.ndim == 3 else each
    parts = [
        plain(part) if found is None else eight_bits(*found)
        for part, found in zip(x.split(1), rounded, strict=True)
    ]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _rounded(x: torch.Tensor) -> tuple[torch.Tensor, float, int] | None:
    """Values as uint8 in the same layout, scale and zero point; None if one is not finite."""
    # As a flat view in memory order, on which torch is several times as fast.
    line = x.as_strided((x.numel(),), (1,))
    low, high = (value.item() for value in line.aminmax())
    low, high = min(low, 0.0), max(high, 0.0)
    if not math.isfinite(high - low):
        return None
    scale = (high - low) / 255 or 1.0
    # Rounded down, so that no value exceeds 255 and wraps in the last conversion.
    zero = math.floor(-low / scale)
    values = torch.empty_like(x, dtype=torch.uint8)
    to = values.as_strided((values.numel(),), (1,))
    # The conversion truncates, hence the half. Through int16, as torch converts float32 directly to
    # uint8 four times as slowly.
    half = torch.tensor(zero + 0.5)
    for source, target in zip(line.split(_CHUNK), to.split(_CHUNK), strict=True):
        target.copy_(torch.add(half, source, alpha=1 / scale).to(torch.int16))
    return values, scale, zero
