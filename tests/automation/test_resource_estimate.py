import pytest

import dpiqa_lab as lab

pytestmark = pytest.mark.medium


def _config(**values):
    return lab.TrainConfig.from_parameters({"dataset": "koniq", "backbone": "sd15", **values})


def test_sizes_of_the_published_model_on_koniq():
    told = "\n".join(lab.automation.training_needs(_config())["what"])
    # 10,073 x 4 x 64 x 64 float32, twice the paper's 330 MB in float16.
    assert "latents: 660.1 MB" in told
    # mid and up blocks: 1280 + 1280 + 1280 + 640 + 320 channels, 7 numbers each, in float32.
    assert f"pooled features: {10_073 * 4 * 7 * 4800 / 1e9:.2f} GB" in told
    # 4 bytes a weight, 12 more where it is trained: 980.99 M of 1,064.6 M (QFD without the two
    # layers that the release holds and never uses).
    assert "weights and Adam's state: 16.03 GB" in told


def test_fewer_trained_weights_need_less():
    told = "\n".join(lab.automation.training_needs(_config(trainable="decoder"))["what"])
    assert f"{(4 * 1064.67 + 12 * 42.93) / 1e3:.2f} GB" in told


def test_a_trial_tells_the_time(small_folder):
    config = lab.TrainConfig.from_parameters(
        {
            "dataset": "folder",
            "data_root": str(small_folder),
            "backbone": "tiny",
            "image_size": 64,
            "batch_size": 4,
            "epochs": 2,
            "max_steps": 10,
            "validate_every": 5,
        }
    )
    found = lab.automation.training_needs(config, photographs=30, trial=True)
    (told,) = found["what"][found["what"].str.startswith("training: about")]
    # 21 train photographs in batches of 4: 6 steps an epoch, cut to 10 by max_steps.
    assert "10 steps of 4 photographs" in told
    assert "2 validations" in told


def test_too_little_disk_is_an_error(monkeypatch):
    monkeypatch.setattr("dpiqa_lab.automation.resource_estimate._free", lambda: 1e6)
    found = lab.automation.training_needs(_config())
    assert found["severity"].tolist().count("error") == 1


def test_a_size_that_does_not_fit():
    with pytest.raises(lab.LabError, match="multiples of"):
        lab.automation.training_needs(_config(image_size=100))


@pytest.mark.parametrize(("trainable", "said"), [("lora", "5.74"), ("decoder", "4.77")])
def test_less_is_in_memory_where_less_is_trained(trainable, said):
    # 123.08 M and 42.93 M of 1,066.26 M and 1,064.66 M parameters.
    told = " ".join(lab.automation.training_needs(_config(trainable=trainable))["what"])
    assert f"weights and Adam's state: {said} GB" in told
