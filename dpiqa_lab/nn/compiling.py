"""``torch.compile``, block by block."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import nn

from ..core.errors import LabError

# By their classes' names, as diffusers names what it compiles: its U-Nets' and VAEs' blocks, its
# adapters', and those of the EfficientNets. What is left between them is cheap or one kernel.
_BLOCKS = ("ResnetBlock2D", "Transformer2DModel", "AdapterResnetBlock", "_Block")
# torch gives a function up after 8 shapes; all blocks of a kind share theirs.
_SHAPES = 256
_wanted: ContextVar[bool] = ContextVar("compiled", default=True)  # by the innermost ``compiling``


@contextlib.contextmanager
def compiling(wanted: bool) -> Iterator[None]:
    """Within the block no compiled block runs compiled unless ``wanted``, whatever surrounds it."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


@contextlib.contextmanager
def compiled(network: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Within the block of code ``network``'s blocks run compiled, where ``wanted``.

    Blocks and not the whole: equal ones are compiled once, and what is tapped between them can be
    seen. They are those of Stable Diffusion's U-Nets and VAEs, of the image adapter and of the
    EfficientNets; other networks run as they are. Nothing happens to blocks that are compiled
    already, as in a validation amid a training.

    Raises:
        LabError: at the first pass, where no compiler works.
    """
    blocks = [m for m in network.modules() if type(m).__name__ in _BLOCKS] if wanted else []
    blocks = [block for block in blocks if "forward" not in vars(block)]
    with compiling(wanted), contextlib.ExitStack() as stack:
        if blocks:
            stack.enter_context(torch._dynamo.config.patch(recompile_limit=_SHAPES))
        for block in blocks:
            block.forward = _Compiled(block.forward)
            stack.callback(delattr, block, "forward")
        yield


class _Compiled:
    """A block's pass, compiled for the largest batch that it has met, with gradients and without.

    Smaller batches, as at the end of a set, are not worth compiling: they run as they are.
    """

    def __init__(self, forward: Callable):
        self.plain = forward
        self.compiled = torch.compile(forward, dynamic=False)
        self.most = {True: 0, False: 0}

    def __call__(self, x: torch.Tensor, *args, **kwargs):
        gradients = torch.is_grad_enabled()
        if not _wanted.get() or len(x) < self.most[gradients]:
            return self.plain(x, *args, **kwargs)
        try:
            out = self.compiled(x, *args, **kwargs)
        except torch._dynamo.exc.ShortenTraceback as error:  # of compilers, missing ones included
            said = next(iter(str(error).splitlines()), "")
            raise LabError(
                f"compile=True, but no compiler works here ({type(error).__name__}: {said[:160]}): "
                "leave it out, or install a C++ compiler (on a GPU also triton)."
            ) from error
        self.most[gradients] = len(x)
        return out
