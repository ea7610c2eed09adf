"""DP-IQA Lab: a workbench for image quality assessment with what a diffusion model knows.

Names are loaded when first used, so that ``import dpiqa_lab`` costs little; ``__init__.pyi`` lists
them for editors. What is used less often is in the rooms: ``lab.probing``, ``lab.evaluation``, ….
"""

from importlib.metadata import version
from pathlib import Path


from ._lazy import attach
from ._renamed import RENAMED

_load, __dir__, _names = attach(__name__, __file__)
# Folders are rooms, for what is used less often.
_ROOMS = [name for name in _names if Path(__file__).with_name(name).is_dir()]
__all__ = sorted({*_names} - {*_ROOMS})
__version__ = version("dpiqa-lab")


def __getattr__(name: str):
    if name in RENAMED:
        raise AttributeError(f"dpiqa_lab.{name} is called dpiqa_lab.{RENAMED[name]} now.")
    return _load(name)
