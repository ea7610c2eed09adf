"""Pillow, loaded a second time under a name of this package, so that its switches are ours alone.

Pillow's switches are variables of its modules: ``ImageFile.LOAD_TRUNCATED_IMAGES`` lets half of a
photograph pass as a whole one, ``Image.MAX_IMAGE_PIXELS`` lets any size pass or none. Any library
of the process may set them at any time, and no call can override them. To set them back around a
read would change what other threads read. A second instance of the modules has its own; it costs
about 30 ms and shares the compiled code.
"""

import importlib.util
import sys
from types import ModuleType

import PIL

_NAME = f"{__package__}._own_pillow"


def load_own_pillow() -> ModuleType:
    """The package Pillow with modules of its own, ``Image`` and ``ImageOps`` loaded.

    The public package is untouched. Pictures of the two must not meet in one operation.
    """
    if _NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            _NAME, PIL.__file__, submodule_search_locations=list(PIL.__path__)
        )
        package = importlib.util.module_from_spec(spec)
        sys.modules[_NAME] = package
        spec.loader.exec_module(package)
    for module in ("Image", "ImageOps"):
        importlib.import_module(f"{_NAME}.{module}")
    return sys.modules[_NAME]
