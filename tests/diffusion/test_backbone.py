import dataclasses
import filecmp
import json
import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from diffusers.models.attention_processor import AttnProcessor2_0

import dpiqa_lab as lab
from dpiqa_lab.diffusion.attention_maps import attention_maps_of, map_taps
from dpiqa_lab.diffusion.presets import PRESETS, Preset
from dpiqa_lab.diffusion.prompts import prompt_texts
from dpiqa_lab.diffusion.tiny import write_layout


@pytest.fixture(scope="module")
def tiny():
    return lab.load_backbone("tiny")


def test_official_prompts_are_all_combinations():
    prompts = prompt_texts("official")
    assert len(prompts) == len(set(prompts)) == 5 * 9 * 33 == 1485
    assert len(prompt_texts("merged")) == 495
    assert "a photo of a night with motion artifacts, which is of perfect quality" in prompts
    assert prompt_texts("none") == [""]
    figure = prompt_texts("figure")
    assert len(set(figure)) == 1485
    assert figure[0] == prompts[0].replace(" artifacts", " distortion") != prompts[0]


def test_prompts_from_a_list_or_a_file(tmp_path):
    (tmp_path / "p.txt").write_text("a sharp photo\n\n a blurred photo \n")
    assert prompt_texts(str(tmp_path / "p.txt")) == ["a sharp photo", "a blurred photo"]
    assert prompt_texts(["x"]) == ["x"]
    with pytest.raises(lab.LabError, match=r"unknown prompt set 'oficial'.*'official'"):
        prompt_texts("oficial")
    with pytest.raises(lab.LabError, match="no prompts"):
        prompt_texts([])


def test_tiny_layout_is_what_the_code_writes(tmp_path):
    committed = Path(__file__).parents[2] / "data" / "tiny_prior"
    config = json.loads((committed / "vae" / "config.json").read_text())
    write_layout(tmp_path, config["scaling_factor"])
    files = [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()]
    _, different, missing = filecmp.cmpfiles(tmp_path, committed, files, shallow=False)
    assert (different, missing) == ([], [])


def test_tiny_embeds_prompts_apart_and_once(tiny):
    embeddings = tiny.embed_prompts()
    assert embeddings.shape == (1, 495, 128)
    assert torch.pdist(embeddings[0]).min() > 1e-3
    again = lab.load_backbone("tiny").embed_prompts("merged")
    assert torch.equal(embeddings, again)
    assert tiny.embed_prompts("none").shape == (1, 1, 128)


def test_mean_pooling_is_the_mean_over_the_prompt_s_own_tokens(tiny):
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = Path(__file__).parents[2] / "data" / "tiny_prior"
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    texts = ["a photo of a plant", "bad quality"]
    pooled = tiny.embed_prompts(texts, "mean")
    for row, text in zip(pooled[0], texts, strict=True):
        alone = tokenizer(text, return_tensors="pt").input_ids  # no padding
        expected = encoder(alone).last_hidden_state[0].mean(0)
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(pooled, tiny.embed_prompts(texts))
    with pytest.raises(lab.LabError, match="unknown prompt pooling 'max'"):
        tiny.embed_prompts(texts, "max")


def test_random_weights_are_the_same_for_a_seed_and_leave_the_generator_alone():
    tiny = lab.load_backbone("tiny", random_weights=True)
    state = torch.random.get_rng_state()
    again = lab.load_backbone("tiny", random_weights=True)
    other = lab.load_backbone("tiny", random_weights=True, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    name = "mid_block.resnets.0.conv1.weight"
    weight = tiny.unet.state_dict()[name]
    assert torch.equal(weight, again.unet.state_dict()[name])
    assert not torch.equal(weight, other.unet.state_dict()[name])
    assert "RANDOM weights (seed 0)" in repr(tiny)


def test_one_sequence_for_all_images_equals_one_each(tiny):
    latents = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    prompts = tiny.embed_prompts()
    with torch.no_grad():
        shared = tiny.denoise(latents, 7, prompts)
        plain = lab.load_backbone("tiny")
        plain.unet.set_attn_processor(AttnProcessor2_0())
        each = plain.unet(latents, 7, prompts.expand(3, -1, -1)).sample
    assert torch.allclose(shared, each, atol=1e-5)


def test_latents_do_not_depend_on_the_batch(tiny):
    images = torch.rand(3, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    together = tiny.encode(images)
    assert together.shape == (3, 4, 8, 16)
    apart = torch.cat([tiny.encode(image[None]) for image in images])
    assert torch.allclose(together, apart, atol=1e-5)
    assert not torch.allclose(together, tiny.encode(images, vae_input="[0,1]"), atol=1e-2)


def test_kl_vae_mean_sample_and_scale(kl_folder):
    backbone = lab.load_backbone(str(kl_folder))
    images = torch.rand(2, 3, 64, 64)
    posterior = backbone.vae.encode(images * 2 - 1).latent_dist
    assert torch.allclose(backbone.encode(images), posterior.mean * 0.18215)
    noise = torch.randn(2, 4, 8, 8)
    expected = (posterior.mean + posterior.std * noise) * 0.18215
    assert torch.allclose(backbone.encode(images, noise=noise), expected, atol=1e-6)


def test_another_vae_stands_in_for_the_one_beside_the_unet(kl_folder, tmp_path, monkeypatch):
    own = lab.load_backbone(str(kl_folder))
    torch.manual_seed(1)
    small = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8)
    ).eval()
    small.save_pretrained(tmp_path / "small")
    preset = Preset(source=str(kl_folder), vae=str(tmp_path / "small"), architecture={
        "unet": dict(own.unet.config), "vae": {"_class_name": "AutoencoderTiny"},
    })  # fmt: skip
    monkeypatch.setitem(PRESETS, "small", preset)
    backbone = lab.load_backbone("small")
    images = torch.rand(2, 3, 64, 64)
    assert torch.allclose(backbone.encode(images), small.encode(images * 2 - 1).latents)
    weights, others = backbone.unet.state_dict(), own.unet.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in others)
    assert backbone.vae_hash() != own.vae_hash()
    with pytest.raises(lab.LabError, match="no posterior"):
        backbone.encode(images, noise=torch.randn(2, 4, 8, 8))
    with pytest.raises(lab.LabError, match="VAE of 'small' has no posterior"):
        lab.TrainConfig.from_parameters({"backbone": "small", "latents": "sample"})
    monkeypatch.setitem(PRESETS, "small", dataclasses.replace(preset, vae=str(tmp_path / "gone")))
    with pytest.raises(lab.LabError, match=r"cannot load .*gone"):
        lab.load_backbone("small")


def test_taesd_is_diffusers_own_architecture():
    preset = PRESETS["sd15-taesd"]
    with torch.device("meta"):
        vae = AutoencoderTiny.from_config(preset.architecture["vae"])
    assert sum(p.numel() for p in vae.encoder.parameters()) == 1_222_532  # as its page says: 1.22 M
    assert len(vae.config.block_out_channels) == 4  # factor 8
    own = {name: getattr(PRESETS["sd15"], name) for name in ("vae", "vae_revision", "architecture")}
    assert dataclasses.replace(preset, **own) == PRESETS["sd15"]


def test_all_that_a_preset_takes_from_a_hub_is_pinned_to_a_commit():
    for name in ("sd15", "sd15-taesd", "sd21"):
        preset = PRESETS[name]
        pins = [preset.revision, preset.text_revision, *([preset.vae_revision] * bool(preset.vae))]
        assert all(re.fullmatch("[0-9a-f]{40}", pin) for pin in pins), name


def test_what_latents_hang_on_is_in_the_vae_s_hash(kl_folder):
    backbone = lab.load_backbone(str(kl_folder))
    before = backbone.vae_hash()
    with torch.no_grad():
        backbone.vae.decoder.conv_in.bias.add_(1)
    assert backbone.vae_hash() == before
    backbone.vae.register_to_config(scaling_factor=0.5)
    assert backbone.vae_hash() != before


def test_tiny_has_no_posterior_to_sample(tiny):
    with pytest.raises(lab.LabError, match="no posterior"):
        tiny.encode(torch.rand(1, 3, 64, 64), noise=torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize("size", [(32, 64), (100, 128), (64, 72)])
def test_sizes_that_do_not_fit_are_refused(tiny, size):
    with pytest.raises(lab.LabError, match=r"multiples of 64"):
        tiny.encode(torch.rand(1, 3, *size))


def test_names_that_lead_nowhere():
    with pytest.raises(lab.LabError, match=r"no backbone 'sd14'.*tiny, sd15, sd21"):
        lab.load_backbone("sd14")
    with pytest.raises(lab.LabError, match=r"cannot load nobody/nothing(.|\n)*tiny"):
        lab.load_backbone("nobody/nothing")
    with pytest.raises(lab.LabError, match=r"no backbone './nowhere'"):
        lab.load_backbone("./nowhere")


def test_a_folder_that_is_no_diffusers_layout(tmp_path):
    with pytest.raises(lab.LabError, match=r"not in diffusers layout: vae/config\.json"):
        lab.load_backbone(str(tmp_path))


def test_taps_see_what_a_plain_hook_sees(tiny):
    latents, prompts = torch.randn(2, 4, 16, 16), tiny.embed_prompts("none")
    seen = {}
    names = ["down_blocks.1.resnets.0", "mid_block", "up_blocks.2"]
    handles = [
        tiny.unet.get_submodule(n).register_forward_hook(
            lambda m, i, o, n=n: seen.__setitem__(n, o.clone())
        )
        for n in names
    ]
    with torch.no_grad(), lab.FeatureTaps(tiny.unet, names) as taps:
        tiny.denoise(latents, 1, prompts)
    for handle in handles:
        handle.remove()
    for name in names:
        assert torch.equal(taps[name], seen[name])


def test_taps_stop_early_and_leave_no_hooks(tiny):
    latents, prompts = torch.randn(1, 4, 8, 8), tiny.embed_prompts("none")
    ran = []
    handle = tiny.unet.conv_out.register_forward_hook(lambda *_: ran.append(1))
    with torch.no_grad():
        with lab.FeatureTaps(tiny.unet, ["mid_block"], stop=True) as taps:
            tiny.denoise(latents, 1, prompts)
        assert taps["mid_block"].shape == (1, 128, 1, 1)
        assert not ran
        with pytest.raises(ZeroDivisionError), lab.FeatureTaps(tiny.unet, ["mid_block"]):
            _ = 1 / 0
        tiny.denoise(latents, 1, prompts)
    assert ran == [1]
    handle.remove()
    assert not any(m._forward_hooks for m in tiny.unet.modules())


@pytest.mark.parametrize("mapped", [False, True])
def test_a_stop_ends_the_block_that_asked_for_it_and_no_other(tiny, mapped):
    early, late = "down_blocks.0", "mid_block"
    if mapped:  # of attention maps, whose modules come and go
        early, late = map_taps(tiny.unet)[0], map_taps(tiny.unet)[-1]
    latents, processors = torch.randn(1, 4, 8, 8), dict(tiny.unet.attn_processors)

    def nested(outer, inner):
        passed = []
        with (
            torch.no_grad(),
            attention_maps_of(tiny, [early, late], "merged"),
            lab.FeatureTaps(tiny.unet, outer, stop=True) as wide,
        ):
            with lab.FeatureTaps(tiny.unet, inner, stop=True) as narrow:
                tiny.denoise(latents, 1, "merged")
                passed.append("whole pass")
            passed.append("inner block")
        assert not any(m._forward_hooks for m in tiny.unet.modules())
        assert tiny.unet.attn_processors == processors
        return wide, narrow, passed

    with (
        torch.no_grad(),
        attention_maps_of(tiny, [early, late], "merged"),
        lab.FeatureTaps(tiny.unet, [early, late]) as expected,
    ):
        tiny.denoise(latents, 1, "merged")
    # The inner block has all first: its own pass ends, and the outer one goes on without the rest.
    wide, narrow, passed = nested([early, late], [early])
    assert passed == ["inner block"]
    for taps in (wide, narrow):
        assert torch.equal(taps[early], expected[early])
    with pytest.raises(lab.LabError, match=f"tap '{re.escape(late)}' has not run"):
        wide[late]
    with (
        torch.no_grad(),
        lab.FeatureTaps(tiny.unet, ["down_blocks.0", "mid_block"], stop=True) as w,
    ):
        with lab.FeatureTaps(tiny.unet, ["down_blocks.0"], stop=True):
            tiny.denoise(latents, 1, "merged")
        tiny.denoise(latents, 1, "merged")
        raise AssertionError("the second pass was not ended")
    assert w["mid_block"].shape == (1, 128, 1, 1)
    # The outer block has all first: both end.
    wide, narrow, passed = nested([early], [early, late])
    assert passed == []
    assert torch.equal(wide[early], expected[early])
    with pytest.raises(lab.LabError, match="has not run"):
        narrow[late]
    # Both with one module: the outer one.
    wide, narrow, passed = nested([late], [late])
    assert passed == []
    assert torch.equal(wide[late], expected[late])


def test_taps_copy_what_the_image_adapter_changes_in_place(tiny):
    latents, prompts = torch.randn(1, 4, 16, 16), tiny.embed_prompts("none")
    sides = zip(tiny.unet.config.block_out_channels, (16, 8, 4, 2), strict=True)
    residuals = [torch.full((1, c, s, s), 5.0) for c, s in sides]
    with torch.no_grad(), lab.FeatureTaps(tiny.unet, ["down_blocks.3"]) as taps:
        tiny.denoise(latents, 1, prompts, residuals)
        with lab.FeatureTaps(tiny.unet, ["down_blocks.3"], copy=False) as raw:
            tiny.denoise(latents, 1, prompts, residuals)
    assert torch.allclose(raw["down_blocks.3"], taps["down_blocks.3"] + 5, atol=1e-5)
    assert len(residuals) == 4


def test_unknown_taps_are_named(tiny):
    with pytest.raises(lab.LabError, match=r"unknown tap 'up_block\.1'.*'up_blocks\.1'"):
        lab.FeatureTaps(tiny.unet, ["up_block.1"])


def test_describe_taps(tiny):
    table = lab.describe_taps(tiny, image_size=256).set_index("tap")
    assert table.loc["up_blocks.3", ["channels", "height", "stride"]].tolist() == [48, 32, 8]
    assert table.loc["mid_block", "bytes per image"] == 4 * 128 * 4 * 4
