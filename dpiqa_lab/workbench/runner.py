"""Notebooks run by papermill, from Python and from the command line."""

import sys
from pathlib import Path

from ..core.errors import LabError


def run_notebook(notebook: Path | str, output: Path | str, **parameters) -> Path:
    """Run a notebook with parameters; the executed copy is ``output``.

    Raises:
        LabError: a cell failed with one; its message, without papermill's traceback.
        papermill.PapermillExecutionError: a cell failed otherwise.
    """
    import papermill

    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters,
            kernel_name="python3",
            progress_bar=False,
            stdout_file=sys.stdout,
        )
    except papermill.PapermillExecutionError as error:
        if error.ename == "LabError":
            raise LabError(error.evalue) from None
        raise
    return output
