"""Networks made faster within a context: compiled blocks, fused batch norms."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..core.errors import LabError

# Class names of the blocks to compile; the layers between them are cheap or a single kernel.
_BLOCKS = ("ResnetBlock2D", "Transformer2DModel", "AdapterResnetBlock", "_Block")
# torch stops compiling a function after 8 shapes by default; blocks of a class share the limit.
_SHAPES = 256
_wanted: ContextVar[bool] = ContextVar("compiled", default=True)  # by the innermost ``compiling``


@contextlib.contextmanager
def compiling(wanted: bool) -> Iterator[None]:
    """Context in which ``compiled`` blocks run compiled only if ``wanted``."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


@contextlib.contextmanager
def compiled(network: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Context in which the blocks of ``network`` run compiled, if ``wanted``.

    Blocks and not the whole network: equal blocks are compiled once, and outputs between them stay
    visible to taps. Compiled are the blocks of Stable Diffusion's U-Nets and VAEs, of the image
    adapter and of the EfficientNets. Blocks that are compiled already are left alone.

    Raises:
        LabError: at the first forward pass, if no compiler works.
    """
    blocks = [m for m in network.modules() if type(m).__name__ in _BLOCKS] if wanted else []
    blocks = [block for block in blocks if "forward" not in vars(block)]
    with compiling(wanted), contextlib.ExitStack() as stack:
        if blocks:
            stack.enter_context(torch._dynamo.config.patch(recompile_limit=_SHAPES))  # noqa: SLF001 - no other way
        for block in blocks:
            block.forward = _Compiled(block.forward)
            stack.callback(delattr, block, "forward")
        yield


class _Compiled:
    """A block's forward pass, compiled for the largest batch so far, with and without gradients.

    Smaller batches, as the last one of a dataset, are not worth compiling and run uncompiled.
    """

    def __init__(self, forward: Callable) -> None:
        self.plain = forward
        self.compiled = torch.compile(forward, dynamic=False)
        self.largest = {True: 0, False: 0}  # batch, by whether gradients are on

    def __call__(self, x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        gradients = torch.is_grad_enabled()
        if not _wanted.get() or len(x) < self.largest[gradients]:
            return self.plain(x, *args, **kwargs)
        try:
            out = self.compiled(x, *args, **kwargs)
        except torch._dynamo.exc.ShortenTraceback as error:  # noqa: SLF001 - any compiler
            cause = next(iter(str(error).splitlines()), "")
            raise LabError(
                f"compile=True, but no compiler works ({type(error).__name__}: {cause[:160]}): "
                "leave it out, or install a C++ compiler (on a GPU also triton)."
            ) from error
        self.largest[gradients] = len(x)
        return out


@contextlib.contextmanager
def fuse_norms(network: nn.Module) -> Iterator[None]:
    """Context in which each convolution and the batch norm right after it are a single layer.

    Applies to the first two layers of every ``nn.Sequential`` in evaluation mode; weights must not
    change meanwhile. Outputs are equal up to rounding. An EfficientNet-Lite0 takes two thirds of
    the time on two CPU cores.
    """
    with contextlib.ExitStack() as stack:
        for part in network.modules():
            if not isinstance(part, nn.Sequential) or part.training or len(part) < 2:
                continue
            convolution, norm, *others = part
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(convolution, norm)
                layout = torch.channels_last
                fused.to(memory_format=layout)  # type: ignore[call-overload]  # not in its stubs
                # On the instance, which hides the method of the class.
                vars(part)["forward"] = nn.Sequential(fused, *others).forward
                stack.callback(delattr, part, "forward")
        yield
