"""The exported student in onnxruntime gives the scores that it has in torch."""

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import dpiqa_lab as lab
from dpiqa_lab.__main__ import main
from tests.support.networks import stir

pytestmark = pytest.mark.medium


def _session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _photographs(folder):
    """Photographs of odd sizes, smooth and rough, one of them turned by EXIF, one grey."""
    rng = np.random.default_rng(0)
    paths = []
    for i, size in enumerate([(7, 3), (641, 427), (33, 500), (64, 64), (1, 1), (199, 98)]):
        pixels = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
        picture = Image.fromarray(pixels // (i + 1))
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 1 else 1
        paths.append(folder / f"{i}.jpg")
        (picture.convert("L") if i == 2 else picture).save(paths[-1], exif=exif)
    return paths


@pytest.mark.parametrize("side", [64, 96, 171])
def test_scores_equal_torch_s_on_photographs_of_any_size(side, tmp_path):
    torch.manual_seed(0)
    student = stir(lab.Student("efficientnet_b0", image_size=side, width=8)).eval()
    session = _session(lab.scoring.export_onnx(student, tmp_path / "student.onnx"))
    paths = _photographs(tmp_path)
    expected = student.score(paths, device="cpu")
    assert np.ptp(expected) > 0.01
    images = np.stack([lab.read_image(path, side) for path in paths])
    images = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    (together,) = session.run(["score"], {"images": images})
    assert together.shape == expected.shape
    # Of scores near 1, as trained students give; these untrained ones go up to 7.
    limit = 1e-4 * np.maximum(1, np.abs(expected))
    assert (np.abs(together - expected) < limit).all()
    alone = [session.run(None, {"images": image[None]})[0][0] for image in images]
    assert (np.abs(alone - expected) < limit).all()
    assert session.get_inputs()[0].shape == ["batch", 3, side, side]
    with pytest.raises(Exception, match=r"(?i)dimension"):
        session.run(None, {"images": images[:, :, :32, :32]})


def test_a_run_is_exported_with_what_its_scores_mean(student_folder, tmp_path, capsys):
    path = tmp_path / "deep" / "s.onnx"
    assert main(["export-onnx", str(student_folder), str(path)]) == 0
    assert f"{path}, " in capsys.readouterr().out
    told = _session(path).get_modelmeta().custom_metadata_map
    assert told["image_size"] == "64"
    assert told["direction"] == "higher is better"
    assert told["trained_on"] == "student.pth"
    assert "not clipped" in told["score"]
    assert "RGB in [0,1]" in told["input"]
    model = lab.load_model(student_folder)
    images = torch.rand(3, 3, 64, 64)
    (scores,) = _session(path).run(None, {"images": images.numpy()})
    assert np.abs(scores - model.score([*images], device="cpu")).max() < 1e-4


def test_what_is_no_student_is_refused(student_folder, tmp_path):
    teacher = lab.Teacher(lab.load_backbone("tiny", random_weights=True), image_size=64)
    with pytest.raises(lab.LabError, match="Teacher is a Teacher"):
        lab.scoring.export_onnx(teacher, tmp_path / "t.onnx")
    with pytest.raises(lab.LabError, match=r"\*\.onnx"):
        lab.scoring.export_onnx(student_folder, tmp_path / "t.pt")
    assert not list(tmp_path.iterdir())
