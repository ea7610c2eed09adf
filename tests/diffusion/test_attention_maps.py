import pytest
import torch

import dpiqa_lab as lab
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.diffusion.attention_maps import AttentionMaps, MappedPromptAttention, map_taps
from dpiqa_lab.diffusion.prompts import factor_members, prompt_texts

PROMPTS = ["a blur of bad quality", "noise", "of perfect quality", "others"]


@pytest.fixture(scope="module")
def tiny():
    return lab.load_backbone("tiny")


@pytest.fixture(scope="module")
def latents():
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))


def test_factors_are_whole_words():
    members = factor_members(["other blur", "others", "Blurred", "BLUR, bad"], ["other", "blur"])
    assert members.tolist() == [[True, True], [False, False], [False, False], [False, True]]
    of_merged = factor_members(prompt_texts("merged"))
    assert of_merged.sum(0).tolist() == [45, 45, 99, 99]  # 5 x 9 prompts a distortion, 9 x 11
    # white noise, white noise with denoise and realistic noise; gaussian and realistic blur
    assert factor_members(prompt_texts("official"), ["noise", "blur"]).sum(0).tolist() == [135, 90]


def test_factors_that_stand_nowhere_are_named(tiny):
    with pytest.raises(LabError, match=r"factors \['blurr'\] stand in none of the 4 prompts"):
        factor_members(PROMPTS, ["noise", "blurr"])
    with pytest.raises(LabError, match="no factors"):
        factor_members(PROMPTS, [])
    with pytest.raises(LabError, match="stand in none of the 1 prompts"):
        AttentionMaps(tiny, "none")


def _positions(backbone, block, latents):
    """Positions of a transformer's output (b, c, h, w), as a plain hook sees it."""
    with lab.FeatureTaps(backbone.unet, [block]) as taps:
        backbone.denoise(latents, 7, PROMPTS)
    return taps[block][0, 0].numel()


@torch.no_grad()
def test_the_pass_is_the_same_with_maps_and_after_them(tiny, latents):
    before = tiny.denoise(latents, 7, PROMPTS)
    processors = dict(tiny.unet.attn_processors)
    with AttentionMaps(tiny, PROMPTS) as maps, lab.FeatureTaps(tiny.unet, maps.taps) as taps:
        mapped = tiny.denoise(latents, 7, PROMPTS)
    torch.testing.assert_close(mapped, before, rtol=1e-4, atol=1e-4)
    assert tiny.unet.attn_processors == processors
    assert torch.equal(tiny.denoise(latents, 7, PROMPTS), before)
    assert len(maps.taps) == len(map_taps(tiny.unet)) > 10
    assert not any("maps" in name for name, _ in tiny.unet.named_modules())
    block = maps.taps[0].rsplit(".transformer_blocks")[0]
    assert taps[maps.taps[0]].shape == (2, _positions(tiny, block, latents), 4)


@torch.no_grad()
def test_every_prompt_s_share_adds_up_to_one_and_a_factor_sums_its_prompts(tiny, latents):
    tap = map_taps(tiny.unet)[3]
    with AttentionMaps(tiny, PROMPTS, None) as maps, lab.FeatureTaps(tiny.unet, [tap]) as taps:
        tiny.denoise(latents, 7, PROMPTS)
        every = taps[tap]
    assert maps.factors == PROMPTS
    torch.testing.assert_close(every.sum(-1), torch.ones(every.shape[:-1]))
    assert every.min() >= 0
    with (
        AttentionMaps(tiny, PROMPTS, ["quality", "noise"]) as maps,
        lab.FeatureTaps(tiny.unet, [tap]) as taps,
    ):
        tiny.denoise(latents, 7, PROMPTS)
    expected = torch.stack([every[..., 0] + every[..., 2], every[..., 1]], dim=-1)
    torch.testing.assert_close(taps[tap], expected)
    assert maps.even.tolist() == [0.5, 0.25]


def test_maps_by_hand():
    """One head of width 1, identity projections: scores are query times key."""
    from diffusers.models.attention_processor import Attention

    attention = Attention(1, cross_attention_dim=1, heads=1, dim_head=1, out_bias=False)
    for layer in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]):
        torch.nn.init.ones_(layer.weight)
    processor = MappedPromptAttention(torch.eye(2))
    seen = []
    processor.maps.register_forward_hook(lambda m, i, out: seen.append(out))
    attention.set_processor(processor)
    log3 = torch.tensor(3.0).log().item()
    out = attention(torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[0.0], [log3]]]))
    torch.testing.assert_close(seen[0], torch.tensor([[[0.25, 0.75], [0.5, 0.5]]]))
    torch.testing.assert_close(out.flatten(), torch.tensor([0.75 * log3, 0.5 * log3]))


@torch.no_grad()
def test_processors_come_back_after_an_error_and_another_prompt_set_is_refused(tiny, latents):
    processors = dict(tiny.unet.attn_processors)
    with pytest.raises(LabError, match="asked for 4 prompts, the pass is guided by 1"):  # noqa: SIM117
        with AttentionMaps(tiny, PROMPTS):
            tiny.denoise(latents, 7, "none")
    assert tiny.unet.attn_processors == processors


def test_describe_taps_gives_times_and_maps(tiny):
    (tap,) = [tap for tap in map_taps(tiny.unet) if tap.startswith("mid_block")]
    table = lab.describe_taps(tiny, 256, ["mid_block", "up_blocks.3", tap]).set_index("tap")
    assert table.loc[tap, ["channels", "height", "width"]].tolist() == [4, 16, 1]
    assert 0 < table.loc["mid_block", "seconds"] < table.loc["up_blocks.3", "seconds"] < 10
