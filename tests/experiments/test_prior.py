import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPTextModel

import dpiqa_lab as lab
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.runs import find_run
from dpiqa_lab.experiments import prior_adapter, prior_unet, prior_vae
from dpiqa_lab.experiments.prior_config import PriorConfig
from dpiqa_lab.experiments.prior_run import train_prior
from dpiqa_lab.models.image_adapter import load_image_adapter
from tests.support.configs import PRIOR

pytestmark = pytest.mark.medium


def _config(pictures_folder, **options):
    return PriorConfig.from_parameters({**PRIOR, "photographs": str(pictures_folder), **options})


def test_a_prior_is_trained_written_and_opened(pictures_folder, capsys):
    run = train_prior(_config(pictures_folder, run_name="small-prior"))
    assert "40 photographs" in capsys.readouterr().out
    assert run.summary()["status"] == "completed"
    assert run.history()["step"].tolist() == [2, 4]
    assert np.isfinite(run.history()["val_explained"]).all()
    backbone = lab.load_backbone(str(run.path / "model"))
    assert not backbone.record["random_weights"]
    weights = load_file(run.path / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    trained = load_file(run.checkpoints / "last.safetensors")["unet.conv_in.weight"]
    torch.testing.assert_close(backbone.unet.conv_in.weight.data, trained, rtol=1e-3, atol=1e-3)
    embedding = backbone.embed_prompts(["a photo"])
    random = lab.load_backbone(str(run.path / "model"), random_weights=True)
    assert not torch.allclose(embedding, random.embed_prompts(["a photo"]), atol=1e-2)
    assert embedding.shape == (1, 1, 128)
    state = load_file(run.checkpoints / "last.safetensors")
    name = "embeddings.token_embedding.weight"
    (kept,) = [value for key, value in state.items() if key.endswith(name)]
    encoder = CLIPTextModel.from_pretrained(run.path / "model" / "text_encoder")
    torch.testing.assert_close(
        encoder.get_input_embeddings().weight.data.float(), kept, rtol=1e-3, atol=1e-3
    )
    latents = torch.cat([backbone.encode(torch.rand(4, 3, 64, 64)) for _ in range(2)])
    assert latents.shape == (8, 4, 8, 8)
    adapter = load_image_adapter(run.path / "model")
    state = load_file(find_run("small-prior-adapter").checkpoints / "last.safetensors")
    for name, value in adapter.items():
        torch.testing.assert_close(value, state[f"trunk.stages.{name}"], rtol=1e-3, atol=1e-3)
    with pytest.raises(LabError, match="trained a prior, which does not score"):
        lab.load_model("small-prior")
    train_prior(_config(pictures_folder, run_name="small-prior"))
    assert "reused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "run_name", "stop"),
    [
        (prior_adapter.AdapterTask, "small-prior-adapter", 3),
        (prior_vae.VaeTask, "small-prior-vae", 3),
        (prior_vae.DecoderTask, "small-prior-decoder", 3),
        (prior_unet.UNetTask, "small-prior", 4),
    ],
)
def test_an_interrupted_training_ends_with_the_same_weights(
    pictures_folder, monkeypatch, task, run_name, stop
):
    train_prior(_config(pictures_folder, run_name="small-prior"))
    whole = find_run(run_name)
    plain, calls = task.loss, []

    def stopping(self, model, batch):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return plain(self, model, batch)

    stopped = f"stopped-{task.__name__}"
    monkeypatch.setattr(task, "loss", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_prior(_config(pictures_folder, run_name=stopped))
    again = find_run(run_name.replace("small-prior", stopped))
    assert again.state == "interrupted"
    monkeypatch.setattr(task, "loss", plain)
    train_prior(_config(pictures_folder, run_name=stopped))
    one, other = (load_file(run.checkpoints / "last.safetensors") for run in (whole, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("way", ["tokens", "pooled", "shared"])
def test_the_text_reaches_the_unet_in_every_way(way):
    from transformers import CLIPTextConfig

    torch.manual_seed(0)
    unet = lab.load_backbone("tiny").unet
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=50, hidden_size=128, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=8, eos_token_id=49, bos_token_id=48,
        )
    )  # fmt: skip
    network = prior_unet.PriorUNet(unet, encoder)
    ids = torch.tensor([[48, 1, 2, 49, 49], [48, 3, 4, 49, 49]])
    latents, timesteps = torch.randn(2, 4, 8, 8), torch.tensor([10, 500])
    noise, named = network(latents, timesteps, ids, way)
    assert noise.shape == latents.shape
    assert named.shape == (2, 5, 9)
    noise.square().sum().backward()
    assert encoder.get_input_embeddings().weight.grad[1].abs().sum() > 0


def test_photographs_must_be_named():
    with pytest.raises(LabError, match="photographs is not set"):
        PriorConfig.from_parameters({})
    with pytest.raises(LabError, match="Did you mean 'unet_steps'"):
        PriorConfig.from_parameters({"photographs": ".", "unet_step": 3})
    with pytest.raises(LabError, match="multiple of 8 pixels, got 100"):
        PriorConfig.from_parameters({"photographs": ".", "vae_crop": 100})
