"""DP-IQA Lab: image quality assessment with features of diffusion models.

Names are loaded when first used, so that ``import dpiqa_lab`` is fast; ``__init__.pyi`` lists them
for editors. Further names are in the subpackages: ``lab.probing``, ``lab.evaluation``, ….
"""

from importlib.metadata import version
from pathlib import Path

from ._lazy import attach
from ._renamed import RENAMED

_load, __dir__, _names = attach(__name__, __file__)
# Subpackages, which hold the less frequently used names.
_ROOMS = [name for name in _names if Path(__file__).with_name(name).is_dir()]
__all__ = sorted({*_names} - {*_ROOMS})
__version__ = version("dpiqa-lab")


def __getattr__(name: str) -> object:
    if name in RENAMED:
        raise AttributeError(f"dpiqa_lab.{name} is called dpiqa_lab.{RENAMED[name]} now.")
    return _load(name)
