"""A student as an ONNX file: the same scores in any runtime, without PyTorch."""

import io
import warnings
from pathlib import Path

import torch
from torch import nn

from ..core.errors import LabError
from ..core.files import atomic_path
from ..models.student import Student
from .score import open_scorer

_OPSET = 18
_INPUT = (
    "RGB in [0,1], float32, (batch, 3, image_size, image_size): the whole upright photograph, its "
    "aspect ratio not kept, squashed by an antialiased bilinear filter (Pillow's)"
)


def export_onnx(model: str | Path | Student, path: Path | str) -> Path:
    """Write a student to ``path`` as ONNX; returns the path.

    Input ``images`` (batch, 3, s, s), s the student's ``image_size``, RGB in [0,1] as
    ``read_image(photograph, s)`` / 255 gives it; output ``score`` (batch,). The batch may have any
    length. Metadata: model, size, scale and direction of the scores.

    Args:
        model: a student, or the run of one, see ``load_model``.

    Raises:
        LabError: no student, no such run, or the onnx package is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise LabError("export_onnx needs onnx: pip install 'dpiqa-lab[onnx]'.") from error
    path = Path(path).expanduser()
    if path.suffix != ".onnx":
        raise LabError(f"an ONNX file is called *.onnx, got {str(path)!r}.")
    student, record = open_scorer(model)
    if not isinstance(student, Student):
        raise LabError(f"only a student is exported, {record['model']} is a {record['kind']}.")
    file = onnx.load_from_string(_traced(student.cpu().eval()))
    metadata = {**record, "input": _INPUT}
    onnx.helper.set_model_props(file, {k: str(v) for k, v in metadata.items() if v is not None})
    onnx.checker.check_model(file)
    with atomic_path(path) as temporary:
        temporary.write_bytes(file.SerializeToString())
    return path


class _Score(nn.Module):
    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.student(images).score


@torch.no_grad()
def _traced(student: Student) -> bytes:
    side, buffer = student.image_size, io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter needs two more packages.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*legacy TorchScript")
        torch.onnx.export(
            _Score(student).eval(),
            (torch.rand(2, 3, side, side),),
            buffer,  # type: ignore[arg-type]  # the older exporter writes to buffers too
            input_names=["images"],
            output_names=["score"],
            dynamic_axes={"images": {0: "batch"}, "score": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    return buffer.getvalue()
