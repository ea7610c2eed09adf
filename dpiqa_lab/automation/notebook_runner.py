"""Notebooks run by papermill, from Python and from the command line."""

import sys
import warnings
from pathlib import Path

from ..core.errors import LabError
from ..core.files import atomic_path


def run_notebook(notebook: Path | str, output: Path | str, **parameters) -> Path:
    """Run a notebook with parameters; the executed copy is ``output``, there once all has run.

    A notebook that failed is written too, up to the cell with the error.

    Raises:
        LabError: a cell failed with one; its message, without papermill's traceback.
        KeyboardInterrupt: the notebook was interrupted.
        papermill.PapermillExecutionError: a cell failed otherwise.
    """
    import papermill

    output, failure = Path(output), None
    with atomic_path(output) as temporary, warnings.catch_warnings():
        # The temporary file's name ends otherwise.
        warnings.filterwarnings("ignore", "The specified file .* does not end in one of")
        try:
            papermill.execute_notebook(
                notebook,
                temporary,
                parameters,
                kernel_name="python3",
                progress_bar=False,
                stdout_file=sys.stdout,
                # Else its first word is a warning of TCP, which every local Jupyter has.
                extra_arguments=["--log-level=ERROR"],
            )
        except papermill.PapermillExecutionError as error:
            failure = error
    if failure is not None:
        if failure.ename == "LabError":
            raise LabError(failure.evalue) from None
        if failure.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from None
        raise failure
    return output
