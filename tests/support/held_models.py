"""Scores of what runs hold, computed by a process that trained none of them.

``python -m tests.support.held_models <file>``: the file lists tasks, ``[kind, folder,
photographs]``; the answers, lists of numbers in that order, are written beside it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import dpiqa_lab as lab
from tests.conftest import REPOSITORY


def scores(folder: str, photographs: list[str]) -> list[float]:
    """By ``load_model``, in batches as long as the parts: others round otherwise."""
    return lab.load_model(folder).score(photographs, batch_size=3, device="cpu").tolist()


def exported(folder: str, photographs: list[str]) -> list[float]:
    """By onnxruntime, of the run's student as an ONNX file."""
    import onnxruntime

    path = lab.scoring.export_onnx(folder, Path(folder) / "student.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    side = lab.load_model(folder).image_size
    images = np.stack([lab.read_image(path, side) for path in photographs])
    images = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    return session.run(["score"], {"images": images})[0].tolist()


def compared(folder: str, photographs: list[str]) -> list[float]:
    """Of a quality encoder what its training measured on held-out crops; the encoder's features."""
    from dpiqa_lab.core.device import choose_compute
    from dpiqa_lab.core.runs import find_run
    from dpiqa_lab.datasets.images import to_tensor
    from dpiqa_lab.datasets.pixels import pixels_of
    from dpiqa_lab.models.re_iqa import QualityEncoder
    from dpiqa_lab.training.checkpoints import find_weights, restore
    from dpiqa_lab.training.contrastive import ContrastiveTask, Projected
    from dpiqa_lab.training.peer_config import QualityEncoderConfig
    from dpiqa_lab.training.quality_encoder_run import load_quality_encoder

    run = find_run(folder)
    config = QualityEncoderConfig.from_parameters(
        {name: value for name, value in run.config.items() if name != "kind"}
    )
    network = Projected(QualityEncoder(config.trunk))
    restore(network.load_run_state, find_weights(run, "best"))
    data = lab.load_dataset(config.dataset, **config.dataset_options())
    parts = [pixels_of(data.in_split(part), config.image_size) for part in ("train", "val")]
    task = ContrastiveTask(network, *parts, config, choose_compute("cpu", "float32"))
    import torch

    with torch.no_grad():
        measured = task.validate(network.eval())
        image = to_tensor(lab.read_image(photographs[0], config.image_size))[None]
        same = torch.equal(network.encoder(image), load_quality_encoder(run)(image))
    return [measured["contrastive"], measured["found"], float(same)]


KINDS = {"scores": scores, "exported": exported, "compared": compared}


def in_a_new_process(tasks: list[tuple], folder: Path) -> list[list[float]]:
    """The answers to ``tasks``, see the module; files are written to ``folder``."""
    path = folder / "tasks.json"
    path.write_text(json.dumps(tasks, default=str))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.held_models", str(path)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(path.with_suffix(".answers").read_text())


if __name__ == "__main__":
    given = Path(sys.argv[1])
    found = [KINDS[kind](*task) for kind, *task in json.loads(given.read_text())]
    given.with_suffix(".answers").write_text(json.dumps(found))
