import pytest

from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.experiments import timestep_ablation
from dpiqa_lab.experiments.timestep_ablation import ASKED, variants
from dpiqa_lab.nn.int8 import int8_kernels
from dpiqa_lab.probing.probe_config import AblationConfig


def _config(**options):
    return AblationConfig.from_parameters({"backbone": "tiny", "timesteps": "1,50,400", **options})


def test_an_arm_differs_in_one_thing():
    found = variants(_config())
    assert list(found) == [ASKED, "with noise", "no prompts", "random weights"]
    assert found["with noise"].noise_seed == 0
    assert found["no prompts"].prompts == "none"
    assert found["random weights"].random_weights
    assert {variant.timesteps for variant in found.values()} == {(1, 50, 400)}
    other = variants(_config(noise_seed=3, prompts="none", random_weights=True))
    assert list(other) == [ASKED, "no noise", "prompts: merged"]


def test_the_other_arms_may_have_timesteps_of_their_own():
    found = variants(_config(other_timesteps="1,400"))
    assert found.pop(ASKED).timesteps == (1, 50, 400)
    assert {variant.timesteps for variant in found.values()} == {(1, 400)}


@pytest.mark.skipif(not int8_kernels(), reason="torch has no such kernels here")
def test_teachers_train_in_a_precision_that_has_gradients(monkeypatch):
    asked = []

    class Trained:
        name = "trained"

        def summary(self):
            return {"metrics": {"test": {"srcc_ci": (0, 1), "n": 3, "srcc": 0.5, "plcc": 0.5}}}

    def train(config, dataset, rename):
        asked.append(config)
        return Trained()

    monkeypatch.setattr(timestep_ablation, "train_teacher", train)
    options = {"device": "cpu", "end_to_end_timesteps": "1,50", "run_name": "passes"}
    fast = choose_compute("cpu").precision
    for precision, expected in (("int8", fast), ("float32", "float32")):
        table = timestep_ablation.train_at_timesteps(
            _config(precision=precision, **options), None, "passes"
        )
        assert list(table["timestep"]) == [1, 50]
        assert asked[-1].precision == expected
