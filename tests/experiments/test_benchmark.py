"""The benchmark's own correctness: the reference is the method, counts are right, ratios add up."""

import pandas as pd
import pytest
import torch

import dpiqa_lab as lab
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.experiments import stage_profile
from dpiqa_lab.experiments.benchmark import generated_photographs
from dpiqa_lab.experiments.benchmark_config import BenchmarkConfig
from dpiqa_lab.experiments.plain_reference import PlainReference
from dpiqa_lab.experiments.profiling import Candidate, counted, floors, interleaved, profiled
from dpiqa_lab.experiments.speed_ratios import speed_ratios
from dpiqa_lab.experiments.stage_profile import READING, select_stages, stage_table
from dpiqa_lab.experiments.throughput import layout_gains, pass_table
from dpiqa_lab.nn.int8 import int8_kernels

pytestmark = pytest.mark.medium

CPU = choose_compute("cpu", "float32")


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    prompts = torch.randn(1, 7, 128)
    return lab.Teacher(lab.load_backbone("tiny"), prompts, decoder_width=16, image_size=64).eval()


@pytest.fixture(scope="module")
def student():
    return lab.Student("efficientnet_tiny", image_size=64, width=8, head="pooled")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    config = BenchmarkConfig(image_size=64, photographs=2)
    return generated_photographs(tmp_path_factory.mktemp("generated"), config)


@pytest.mark.parametrize("head", ["flat", "pooled"])
def test_the_plain_reference_gives_the_teacher_s_scores(teacher, head):
    torch.manual_seed(1)
    whole = lab.Teacher(
        teacher.backbone, torch.randn(1, 7, 128), decoder_width=16, image_size=64,
        decoder_head=head,
    ).eval()  # fmt: skip
    images = torch.rand(2, 3, 64, 64)
    reference = PlainReference(whole)
    before = dict(whole.backbone.unet.attn_processors)
    with reference.layout():
        plain = reference.score(images)
        with torch.no_grad():
            both = reference.forward(images)
    assert whole.backbone.unet.attn_processors == before
    with torch.no_grad():
        output = whole(images)
    assert torch.allclose(plain, output.score, atol=1e-5)
    assert torch.allclose(both.score, output.score, atol=1e-5)
    assert torch.allclose(both.feature_map, output.feature_map, atol=1e-4)
    assert (output.score[0] - output.score[1]).abs() > 1e-6


def test_the_plain_features_are_those_that_are_extracted(teacher, photographs, tmp_path):
    taps = ["up_blocks.0", "up_blocks.3"]
    found = lab.extract_features(
        teacher.backbone, photographs, [1, 500], taps,
        prompts=["one", "two words"], cache_dir=tmp_path, compute=CPU,
    )  # fmt: skip
    prompts = teacher.backbone.embed_prompts(["one", "two words"])
    reference = PlainReference(lab.Teacher(teacher.backbone, prompts, image_size=64))
    from dpiqa_lab.datasets.pixels import Pixels

    images = torch.stack([Pixels(photographs)[i][0] for i in range(2)]).float().div(255)
    with reference.layout():
        plain = reference.features(images, [1, 500], taps)
    for place, means in plain.items():
        assert torch.allclose(found[*place, "mean"], means, atol=1e-4)


def test_operations_and_bytes_are_counted():
    a, b = torch.ones(4, 8), torch.ones(8, 16)
    operations, moved = counted(lambda: (a @ b).relu())
    assert operations == 2 * 4 * 8 * 16
    # Two factors and a product, which is then read and written again.
    assert moved == 4 * (4 * 8 + 8 * 16 + 4 * 16) + 4 * (2 * 4 * 16)


def test_a_profile_tells_kinds_and_the_most_memory_held():
    a = torch.ones(1024, 1024)

    def call():
        b = a @ a
        c = b.exp()
        del b
        return (c + 1).sum()

    profile = profiled(call, CPU.device)
    megabyte = a.numel() * 4
    assert 2 * megabyte <= profile.peak < 2.5 * megabyte
    assert profile.seconds["products"] > 0
    assert profile.seconds["elementwise"] > 0
    assert profile.seconds["copies"] < profile.seconds["products"]


def test_ways_take_turns_and_the_best_round_counts():
    seen = []
    ways = {name: Candidate(lambda name=name: seen.append(name)) for name in "ab"}
    best = interleaved(ways, 3, CPU.device)
    assert seen == list("ababab")
    assert set(best) == {"a", "b"}
    assert all(0 <= seconds < 1 for seconds in best.values())


def test_floors_are_those_of_a_computer():
    (row,) = floors(CPU.device, ["float32"], rounds=1).to_dict("records")
    assert 1e8 < row["products"] < 1e15
    assert 1e8 < row["copy"] < 1e13


def test_stages_cover_the_way_and_their_parts_make_a_whole(teacher, student, photographs):
    rates = pd.DataFrame([{"precision": "float32", "products": 1e10, "copy": 1e10}])
    paths = list(photographs.table["path"])
    table = stage_table(teacher, student, paths, [CPU], [1, 2], rates, rounds=1)
    one = select_stages(table, "float32", 1)
    assert list(one["stage"]) == [
        *READING, "VAE", "image adapter", "U-Net", "decoder", "backward", "student",
    ]  # fmt: skip
    parts = table[["products", "copies", "elementwise", "outside"]]
    assert ((parts >= 0) & (parts <= 1)).all(axis=None)
    assert parts.sum(axis=1).to_numpy() == pytest.approx(1)
    both = table.pivot(index="stage", columns="batch", values="operations")
    networks = both.drop(list(READING))
    assert (networks > 0).all(axis=None)
    # A photograph costs the same in any batch, but for the prompts' projections.
    assert (networks[2] <= networks[1]).all()
    assert networks.loc["VAE", 1] == networks.loc["VAE", 2]
    assert (table["seconds"] > 0).all()
    assert (table["share"] * table["seconds"]).to_numpy() == pytest.approx(table["floor"])
    assert table.set_index(["stage", "batch"])["memory_gb"].loc["U-Net", 1] > 0
    with pytest.raises(lab.LabError, match="bfloat16 at batch 1 was not measured: float32 at 1"):
        select_stages(table, "bfloat16", 1)


def test_ratios_compare_like_with_like(teacher, student, photographs):
    table = speed_ratios(teacher, student, photographs, [CPU], timesteps=2, rounds=1)
    assert list(table["what"]) == [
        "score, first pass", "score again, latents known", "training step, latents known",
        "sweep over timesteps and layers", "student's score",
    ]  # fmt: skip
    assert (table["ratio"] * table["lab_s"]).to_numpy() == pytest.approx(table["plain_s"])
    # The same measurement serves wherever the plain teacher's score is meant.
    assert table["plain_s"][[0, 1, 4]].nunique() == 1
    assert not any(p.grad is not None for p in teacher.parameters())


@pytest.mark.skipif(not int8_kernels(), reason="torch has no such kernels here")
def test_int8_is_measured_but_not_trained(teacher, student, photographs):
    computes = [CPU, choose_compute("cpu", "int8")]
    rates = floors(CPU.device, ["float32", "int8"], rounds=1)
    assert (rates["products"] > 1e8).all()
    paths = list(photographs.table["path"])
    table = stage_table(teacher, student, paths, computes, [1], rates, rounds=1)
    counts = table.pivot(index="stage", columns="precision", values="operations")
    assert counts.index[counts["int8"].isna()].tolist() == ["backward", *READING]
    both = counts.dropna()
    assert both["int8"].tolist() == both["float32"].tolist()
    ratios = speed_ratios(teacher, student, photographs, computes, timesteps=2, rounds=1)
    assert set(ratios["what"][ratios["lab"] == "int8"]) == {
        "score, first pass", "score again, latents known", "sweep over timesteps and layers",
        "student's score",
    }  # fmt: skip
    gains = layout_gains(teacher, student, torch.rand(1, 3, 64, 64), computes, rounds=1)
    assert set(gains["precision"]) == {"float32"}
    rates = pd.DataFrame({"precision": ["float32", "int8"], "products": 1e10})
    images = torch.rand(1, 3, 64, 64)
    passes = pass_table(teacher, student, images, computes, [1], rates, rounds=1)
    int8 = set(passes["what"][passes["precision"] == "int8"])
    assert set(passes["what"]) - int8 == {"training step, latents known"}


def test_layouts_are_measured(teacher, student):
    seen = []

    def look(conv, _):
        last = conv.weight.is_contiguous(memory_format=torch.channels_last)
        seen.append(torch.channels_last if last else torch.contiguous_format)

    handle = teacher.backbone.unet.conv_in.register_forward_pre_hook(look)
    table = layout_gains(teacher, student, torch.rand(1, 3, 64, 64), [CPU], rounds=1)
    handle.remove()
    assert list(table["network"]) == ["VAE", "U-Net", "student"]
    assert (table["gain"] * table["last"]).to_numpy() == pytest.approx(table["first"])
    assert (table["last"] > 0).all()
    assert seen == 2 * [torch.contiguous_format] + 2 * [torch.channels_last]  # warmed up, timed


def test_passes_are_measured_by_batch_and_what_could_not_be_is_told(teacher, student, monkeypatch):
    def broken(*_, **__):
        raise torch._dynamo.exc.ShortenTraceback("no C++", first_useful_frame=None)

    def full(x):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GB")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    rates = pd.DataFrame({"precision": ["float32"], "products": 1e10})
    images = torch.rand(2, 3, 64, 64)
    with monkeypatch.context() as patch:
        patch.setattr(student, "forward", full)
        table = pass_table(teacher, student, images, [CPU], [3, 1], rates, 1, compile=True)
    assert list(table["batch"]) == 4 * [1] + 4 * [3] + 4 * [1] + 4 * [3]
    one = table[~table["compiled"] & (table["batch"] == 1)].set_index("what")
    assert list(one.index) == [
        "score, first pass", "score again, latents known", "training step, latents known",
        "student's score",
    ]  # fmt: skip
    networks = one.drop("student's score")
    assert (networks[["rate", "share", "memory_gb"]] > 0).all(axis=None)
    assert (networks["note"] == "").all()
    # A photograph's operations over its time, both by the rate of the products.
    operations = networks["share"] / networks["rate"]
    assert operations["score, first pass"] > operations["score again, latents known"]
    assert operations["training step, latents known"] > 2 * operations["score again, latents known"]
    said = table.set_index("what")["note"]
    assert (said["student's score"] == "CUDA out of memory. Tried to allocate 9 GB").all()
    compiled = table[table["compiled"] & (table["what"] != "student's score")]
    assert compiled["rate"].isna().all()
    assert compiled["note"].str.contains("no compiler works (", regex=False).all()
    assert not any(p.grad is not None and p.grad.any() for p in teacher.parameters())


def test_a_compiled_pass_is_counted_by_plain_ones(teacher, student, monkeypatch):
    calls = []

    def as_it_is(forward, dynamic):
        return lambda *a, **k: calls.append(len(a[0])) or forward(*a, **k)

    def watched(call):
        before = len(calls)
        found = counted(call)
        assert len(calls) == before
        return found

    def plainly_full(*inputs):
        if len(inputs[0]) == 2 and not calls:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*inputs)

    forward = teacher.forward
    monkeypatch.setattr(torch, "compile", as_it_is)
    monkeypatch.setattr(stage_profile, "counted", watched)
    monkeypatch.setattr(teacher, "forward", plainly_full)
    rates = pd.DataFrame({"precision": ["float32"], "products": 1e10})
    images = torch.rand(2, 3, 64, 64)
    table = pass_table(teacher, student, images, [CPU], [1, 2], rates, 1, False, compile=True)
    assert {1, 2} <= set(calls)
    rows = table[table["what"] == "score again, latents known"]
    rows = rows.set_index(["compiled", "batch"])
    operations = rows["share"] / rows["rate"]
    assert rows.loc[(False, 2), "note"] == "CUDA out of memory"
    assert operations[True, 1] == pytest.approx(operations[False, 1])
    assert operations[True, 2] == pytest.approx(operations[False, 1])


def test_a_missing_compiler_leaves_the_plain_passes(kl_folder, student, monkeypatch):
    def broken(*_, **__):
        raise torch._dynamo.exc.ShortenTraceback("no C++", first_useful_frame=None)

    prompts = torch.randn(1, 7, 12)
    whole = lab.Teacher(  # whose VAE has blocks that are compiled
        lab.load_backbone(str(kl_folder)), prompts, decoder_width=8, image_size=64
    )
    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    rates = pd.DataFrame({"precision": ["float32"], "products": 1e10})
    images = torch.rand(1, 3, 64, 64)
    table = pass_table(whole, student, images, [CPU], [1], rates, 1, compile=True)
    assert table.groupby("compiled")["rate"].count().to_dict() == {False: 4, True: 0}


def test_batches_that_memory_does_not_hold_are_left_out(teacher, student, photographs, monkeypatch):
    encode = teacher.encode

    def full(images):
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(images)

    monkeypatch.setattr(teacher, "encode", full)
    rates = pd.DataFrame({"precision": ["float32"], "products": 1e10})
    paths = list(photographs.table["path"])
    table = stage_table(teacher, student, paths, [CPU], [2, 1], rates, 1)
    assert set(table["batch"]) == {1}
    assert len(table) == 8


def test_impossible_benchmarks_are_refused():
    build = BenchmarkConfig.from_parameters
    with pytest.raises(lab.LabError, match=r"unknown trunk 'b7'|unknown.*'b7'"):
        build({"student": "b7"})
    with pytest.raises(lab.LabError, match="batch_sizes is empty"):
        build({"batch_sizes": ""})
    assert build({"precisions": "bfloat16"}).precisions == ("float32", "bfloat16")
    assert build({}).run_name != build({"image_size": 512}).run_name
