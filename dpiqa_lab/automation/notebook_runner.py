"""Running a notebook by papermill."""

import sys
import warnings
from pathlib import Path

from ..core.errors import LabError
from ..core.files import atomic_path


def run_notebook(notebook: Path | str, output: Path | str, **parameters: object) -> Path:
    """Run a notebook with parameters and write the executed copy to ``output`` at the end.

    A failed notebook is written too, up to the cell with the error.

    Raises:
        LabError: a cell raised one; without papermill's traceback.
        KeyboardInterrupt: the notebook was interrupted.
        papermill.PapermillExecutionError: a cell raised another error.
    """
    import papermill

    output, failure = Path(output), None
    with atomic_path(output) as temporary, warnings.catch_warnings():
        # The temporary file has another extension.
        warnings.filterwarnings("ignore", "The specified file .* does not end in one of")
        try:
            papermill.execute_notebook(
                notebook,
                temporary,
                parameters,
                kernel_name="python3",
                progress_bar=False,
                stdout_file=sys.stdout,
                # Hides a warning about TCP, which every local Jupyter prints.
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
