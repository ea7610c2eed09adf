"""Packages that only some work needs, by the extra of this package that brings them."""

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec

from .errors import LabError

EXTRAS = {
    "notebooks": ("anywidget", "IPython", "ipywidgets", "nbformat", "papermill"),
    "train": ("openpyxl", "skimage"),
    "cluster": ("dask", "distributed", "pyarrow"),
    "onnx": ("onnx", "onnxruntime"),
    "lora": ("peft",),
}


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Within the block a missing package of an extra is a LabError that names both."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        for extra, packages in EXTRAS.items():
            if missing in packages:
                raise LabError(_advice(missing, extra)) from error
        raise


def check_extras(*extras: str) -> None:
    """Raise LabError if a package of one of the ``extras`` is not installed."""
    for extra in extras:
        for package in EXTRAS[extra]:
            if find_spec(package) is None:
                raise LabError(_advice(package, extra))


def _advice(package: str, extra: str) -> str:
    return f"{package} is not installed: pip install 'dpiqa-lab[{extra}]'."
