"""The notebooks on a GPU at full size, random weights, generated photographs in KonIQ-10k's layout.

``make test-gpu`` alone runs these, and fails where there is no GPU: minutes, 40 GB of its memory.
``DPIQA_TEST_GPU=cpu`` rehearses them without one, with the tiny backbone at 64x64.
"""

import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from dpiqa_lab.core.runs import find_run
from tests.test_notebooks import _papermill

pytestmark = pytest.mark.gpu
DEVICE = os.environ.get("DPIQA_TEST_GPU", "cuda")
BACKBONE, SIZE = ("sd15", 512) if DEVICE == "cuda" else ("tiny", 64)
READ = {"image_size": SIZE, "device": DEVICE}
MODEL = {"backbone": BACKBONE, "random_weights": True}
TRAINED = {"batch_size": 4, "validate_every": 2}


@pytest.fixture(scope="module")
def koniq(tmp_path_factory):
    """48 photographs of 1024x768, and scores that fall with their blur."""
    root = tmp_path_factory.mktemp("koniq")
    (root / "1024x768").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(48):
        blur = rng.random()
        coarse = Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))
        image = coarse.resize((1024, 768), Image.Resampling.BICUBIC)
        image.filter(ImageFilter.GaussianBlur(9 * blur)).save(root / f"1024x768/{i}.jpg")
        part = ("training", "training", "validation", "test")[i % 4]
        rows.append({"image_name": f"{i}.jpg", "MOS": 90 - 80 * blur, "set": part})
    table = pd.DataFrame(rows).assign(c1=0.2, c2=0.2, c3=0.2, c4=0.2, c5=0.2, c_total=100, SD=0.5)
    table.to_csv(root / "koniq10k_distributions_sets.csv", index=False)
    return root


def _ran(folder, notebook, **options):
    result = _papermill(folder, notebook, **options)
    assert result.returncode == 0, result.stderr[-3000:]
    run = find_run(options["run_name"])
    assert run.summary()["status"] == "completed"
    return run


def test_03_04_and_05_train_distil_and_evaluate(koniq, tmp_path):
    data = {"dataset": "koniq", "data_root": koniq, **READ}
    teacher = _ran(tmp_path, "03_train", **data, **MODEL, **TRAINED, max_steps=4, run_name="gpu_03")
    assert teacher.config["device"] == DEVICE
    assert np.isfinite(teacher.predictions()["score"]).all()
    students = _ran(
        tmp_path, "04_distill", **data, **TRAINED, teacher="gpu_03", arms="labels,both",
        trunk="efficientnet_b7" if DEVICE == "cuda" else "efficientnet_tiny", max_steps=2,
        run_name="gpu_04",
    )  # fmt: skip
    arms = pd.read_csv(students.path / "ablation.csv")["arm"]
    assert list(arms) == ["teacher", "labels", "both"]
    judged = _ran(
        tmp_path, "05_evaluate", models="ridge_on_statistics,gpu_03", datasets="koniq",
        data_roots=koniq, robustness=4, resamples=100, run_name="gpu_05", **READ,
    )  # fmt: skip
    assert set(pd.read_csv(judged.path / "agreement.csv")["model"]) == {
        "ridge_on_statistics", "gpu_03",
    }  # fmt: skip


def test_01_02_and_08_look_inside_and_compare(koniq, tmp_path):
    data = {"dataset": "koniq", "data_root": koniq, **READ, **MODEL}
    looks = {"timesteps": "1,100", "splits": 3}
    _ran(tmp_path, "01_feature_probing", **data, **looks, shown=2, run_name="gpu_01")
    _ran(tmp_path, "02_timestep_ablation", **data, **looks, random_twin=False, run_name="gpu_02")
    _ran(
        tmp_path, "08_components", **data, **TRAINED, arms="whole,no prompts", seeds=1, share=1,
        max_steps=2, run_name="gpu_08",
    )  # fmt: skip


def test_06_and_07_open_and_measure(koniq, tmp_path):
    shown = {"timesteps": "1,100", "name": "gpu_06"}
    result = _papermill(
        tmp_path, "06_explore", dataset="koniq", data_root=koniq, **READ, **MODEL, **shown
    )
    assert result.returncode == 0, result.stderr[-3000:]
    few = {"photographs": 1, "batch_sizes": "1", "timesteps": 2, "rounds": 1}
    run = _ran(tmp_path, "07_benchmark", **READ, **MODEL, **few, run_name="gpu_07")
    assert (pd.read_csv(run.path / "passes.csv")["rate"] > 0).all()


def test_00_trains_a_small_prior(koniq, tmp_path):
    steps = {"vae_steps": 20, "vae_linear": 5, "decoder_steps": 10}
    steps |= {"adapter_steps": 10, "unet_steps": 10, "validate_every": 10, "views": 1}
    photographs = koniq / "1024x768"
    result = _papermill(
        tmp_path, "00_pretrain_prior", photographs=photographs, device=DEVICE, run_name="gpu_00",
        **steps,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
