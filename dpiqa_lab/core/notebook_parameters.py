"""STUB until merged."""

import ast
from collections.abc import Mapping

NOTEBOOK_MARK = "# Parameters:"
_PAPERMILL_MARK = "# Parameters\n"


def notebook_parameters(namespace: Mapping[str, object]) -> dict[str, object]:
    """Names and values set in a notebook's parameters cell and in papermill's injected one.

    ``namespace`` is the notebook's ``globals()``. Papermill injects any name it is given, with a
    warning only; so the names are read from the cells' source, and ``build`` can refuse the
    unknown ones. Variables of other cells do not count.
    """
    cells = [source for source in namespace["In"] if source.startswith("# Parameters")]
    own = [i for i, source in enumerate(cells) if source.startswith(NOTEBOOK_MARK)]
    names: dict[str, None] = {}
    for source in cells[own[-1] if own else 0 :]:
        if source.startswith((NOTEBOOK_MARK, _PAPERMILL_MARK)):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    names[node.id] = None
    return {name: namespace[name] for name in names}
