"""Names of a room loaded when first used."""

from collections.abc import Callable

import lazy_loader


def attach(
    package: str, file: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` as the package's ``__init__.pyi`` has them."""
    load, names_of, names = lazy_loader.attach_stub(package, file)

    def get(name: str) -> object:
        from .core.extras import explained  # core is such a room itself

        with explained():
            return load(name)

    return get, names_of, names
