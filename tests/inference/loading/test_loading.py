"""Loading: every LoRA naming merges to the same weights, and damaged or foreign files are refused with the reason."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel

from inference.catalog import Catalog
from inference.catalog.entries import Family
from inference.contract import Adapter
from inference.drawing.models import load_model
from inference.errors import AdapterUnfit, InferenceError, WeightsMissing, WeightsUnreadable
from inference.loading import open_model
from inference.loading.lora import Change, Difference, Factors, LoraError, Target, merge_lora, read_lora
from inference.memory.group_norm import normalise_evenly
from inference.memory.model import LoadedModel
from inference.memory.network import ReadNetwork
from tests.checkpoints import TinyModels, lora_targets
from tests.layouts import draw_whole_changes, pipeline, save_comfyui_lora, whole_change


def load(
    models: TinyModels, name: str = "tiny-lora", *adapters: Adapter, precision: torch.dtype = torch.float32
) -> LoadedModel:
    catalog = Catalog.load(models.catalog)
    cpu = torch.device("cpu")
    return load_model(catalog, catalog[name], adapters, device=cpu, precision=precision, on_part=lambda: None)


def refusal(models: TinyModels, name: str = "tiny", *adapters: Adapter) -> WeightsUnreadable:
    with pytest.raises(InferenceError) as refused:
        load(models, name, *adapters)
    assert isinstance(refused.value.failure, WeightsUnreadable)
    return refused.value.failure


def misfit(models: TinyModels, name: str, *adapters: Adapter) -> AdapterUnfit:
    with pytest.raises(InferenceError) as refused:
        load(models, name, *adapters)
    assert isinstance(refused.value.failure, AdapterUnfit)
    return refused.value.failure


def weight(model: LoadedModel, name: str) -> Tensor:
    weight: Tensor = model.unet.get_submodule(name).weight
    return weight


# -- what is loaded ----------------------------------------------------------------------------------------------------


def test_weights_are_cast_after_loading_and_their_bytes_counted(tiny_models: TinyModels) -> None:
    full, half = load(tiny_models, "tiny"), load(tiny_models, "tiny", precision=torch.bfloat16)
    assert half.unet.dtype is torch.bfloat16
    assert half.bytes < 0.6 * full.bytes


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_stay_so_until_they_are_laid_out_and_merge_to_the_same_bits(
    copied: TinyModels, tmp_path: Path, stored: torch.dtype
) -> None:
    wide = TinyModels(shutil.copytree(copied.folder, tmp_path / "wide"))
    for path in copied.base.rglob("*.safetensors"):
        half = {name: tensor.to(stored) for name, tensor in load_file(path).items()}
        save_file(half, path, metadata={"format": "pt"})
        save_wide = {name: tensor.float() for name, tensor in half.items()}
        save_file(save_wide, wide.folder / path.relative_to(copied.folder), metadata={"format": "pt"})
    style, catalog = Adapter(name="flat", strength=0.5), Catalog.load(copied.catalog)
    read = open_model(catalog, catalog["tiny-lora"], (style,)).networks(lambda: None)
    assert {weight.dtype for part in ("unet", "vae") for weight in read[part].module.parameters()} == {stored}
    for precision in (torch.float32, torch.float16, torch.bfloat16):
        assert len({digests(load(models, "tiny-lora", style, precision=precision)) for models in (copied, wide)}) == 1


def test_while_a_network_of_half_precision_is_read_others_are_drawn_in_the_default_one(
    copied: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in copied.base.rglob("*.safetensors"):
        save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    defaults: set[torch.dtype] = set()
    build = torch.nn.Linear.__init__

    def noted(*arguments: Any, **options: Any) -> None:
        defaults.add(torch.get_default_dtype())
        build(*arguments, **options)

    monkeypatch.setattr(torch.nn.Linear, "__init__", noted)
    load(copied, "tiny-lora")
    assert defaults == {torch.float32}


def test_weights_of_several_precisions_are_read_in_one_that_holds_them_all(copied: TinyModels) -> None:
    path = copied.base / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    mixed = {name: tensor if name.startswith("conv_out") else tensor.half() for name, tensor in tensors.items()}
    save_file(mixed, path, metadata={"format": "pt"})
    unet = load(copied, "tiny-lora").unet
    assert torch.equal(unet.conv_out.weight, tensors["conv_out.weight"])
    assert torch.equal(unet.conv_in.weight, tensors["conv_in.weight"].half().float())


def digests(model: LoadedModel) -> tuple[str, ...]:
    return tuple(label.digest for label in model._manifest.parts.values())


def test_only_a_native_lcm_has_a_guidance_embedding(tiny_models: TinyModels) -> None:
    assert load(tiny_models, "tiny").guidance_dim == 24
    assert load(tiny_models, "tiny-lora").guidance_dim is None


def test_the_caller_hears_before_every_part_and_may_stop(tiny_models: TinyModels) -> None:
    catalog = Catalog.load(tiny_models.catalog)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_model(catalog, catalog["tiny"], (), device=torch.device("cpu"), precision=torch.float32, on_part=stop)


def test_an_error_of_the_caller_is_not_taken_for_a_damaged_file(tiny_models: TinyModels) -> None:
    catalog = Catalog.load(tiny_models.catalog)

    def lose_the_pipe() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        load_model(
            catalog, catalog["tiny"], (), device=torch.device("cpu"), precision=torch.float32, on_part=lose_the_pipe
        )


def test_the_fingerprint_follows_weights_and_adapters(tiny_models: TinyModels, copied: TinyModels) -> None:
    plain = load(tiny_models).fingerprint
    assert load(copied).fingerprint == plain
    assert load(tiny_models, "tiny-lora", Adapter(name="flat")).fingerprint != plain
    strong, weak = (load(tiny_models, "tiny-lora", Adapter(name="flat", strength=s)).fingerprint for s in (1.0, 0.5))
    assert strong != weak
    tensors = load_file(copied.lcm_lora)
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, copied.lcm_lora)
    assert load(copied).fingerprint != plain


def test_a_file_that_is_replaced_while_it_is_read_is_not_taken_for_either(copied: TinyModels) -> None:
    catalog = Catalog.load(copied.catalog)
    tensors = load_file(copied.lcm_lora)
    parts: list[None] = []

    def replace_it() -> None:
        parts.append(None)
        if len(parts) == 2:
            save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, copied.lcm_lora)

    cpu = torch.device("cpu")
    with pytest.raises(InferenceError) as refused:
        load_model(catalog, catalog["tiny-lora"], (), device=cpu, precision=torch.float32, on_part=replace_it)
    assert isinstance(refused.value.failure, WeightsUnreadable)
    assert "replaced while it was being read" in refused.value.failure.reason
    assert load(copied).fingerprint == load(copied).fingerprint


def test_a_file_that_is_replaced_before_its_weights_are_copied_is_noticed(copied: TinyModels) -> None:
    catalog = Catalog.load(copied.catalog)
    files = open_model(catalog, catalog["tiny"], ())
    files.networks(lambda: None)
    files.check_unchanged()
    path = copied.native / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 1.01 for name, tensor in load_file(path).items()}, path)
    with pytest.raises(InferenceError, match="replaced while it was being read"):
        files.check_unchanged()


def test_what_is_wrong_with_small_files_is_found_before_large_ones_are_read(copied: TinyModels) -> None:
    shutil.rmtree(copied.native / "tokenizer")
    catalog, parts = Catalog.load(copied.catalog), list[str]()
    with pytest.raises(InferenceError, match="tokenizer"):
        open_model(catalog, catalog["tiny"], ()).networks(lambda: parts.append("read"))
    assert parts == []


def test_a_single_network_replaces_the_pipelines_own(tiny_models: TinyModels) -> None:
    assert load(tiny_models, "tiny-xl").guidance_dim == 24
    assert load(tiny_models, "tiny-xl-merged").guidance_dim is None


@pytest.mark.parametrize("side", [8, 32, 48])
@pytest.mark.parametrize("channels", [32, 128])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_group_norm_gives_a_row_the_same_bits_wherever_it_stands(
    precision: torch.dtype, channels: int, side: int
) -> None:
    norm, before = torch.nn.GroupNorm(8, channels).to(precision), torch.get_num_threads()
    normalise_evenly(norm)
    row = torch.randn(1, channels, side, side).to(precision, memory_format=torch.channels_last)
    torch.set_num_threads(3)
    try:
        normalised = norm(row.repeat(4, 1, 1, 1).to(memory_format=torch.channels_last))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(normalised[0], other) for other in normalised[1:])
    exact = torch.nn.functional.group_norm(row.double(), 8)
    assert torch.allclose(normalised[:1].double(), exact, rtol=torch.finfo(precision).eps, atol=1e-5)
    assert normalised.is_contiguous(memory_format=torch.channels_last)


# -- LoRAs -------------------------------------------------------------------------------------------------------------


def test_a_lora_in_diffusers_keys_merges_as_diffusers_fuses_it(tiny_models: TinyModels) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_models.base, safety_checker=None)
    for path, strength in ((tiny_models.lcm_lora, 1.0), (tiny_models.diffusers_style, 0.7)):
        pipeline.load_lora_weights(path.parent, weight_name=path.name)
        pipeline.fuse_lora(lora_scale=strength)
        pipeline.unload_lora_weights()
    mine = load(tiny_models, "tiny-lora", Adapter(name="noto", strength=0.7))
    for name, tensor in pipeline.unet.state_dict().items():
        assert torch.allclose(mine.unet.state_dict()[name], tensor, atol=1e-5), name
    for name, tensor in pipeline.text_encoder.state_dict().items():
        assert torch.allclose(mine.text[0].encoder.state_dict()[name], tensor, atol=1e-5), name


def test_a_lora_in_kohya_keys_merges_as_diffusers_fuses_it(tiny_models: TinyModels, tmp_path: Path) -> None:
    only_unet = {key: tensor for key, tensor in load_file(tiny_models.kohya).items() if key.startswith("lora_unet")}
    save_file(only_unet, tmp_path / "style.safetensors")
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_models.base, safety_checker=None)
    pipeline.load_lora_weights(tmp_path, weight_name="style.safetensors")
    pipeline.fuse_lora(lora_scale=0.5)
    pipeline.unload_lora_weights()
    unet = StableDiffusionPipeline.from_pretrained(tiny_models.base, safety_checker=None).unet
    read = ReadNetwork(unet)
    merge_lora({"unet": read}, read_lora(tmp_path / "style.safetensors"), 0.5)
    for name, tensor in pipeline.unet.state_dict().items():
        assert torch.allclose(read.updated(name, unet.state_dict()[name]), tensor, atol=1e-5), name


def test_alpha_and_rank_of_every_layer_scale_its_change(tiny_models: TinyModels) -> None:
    """Checked by hand, text encoder included, which diffusers 0.42 leaves out of a kohya file beside transformers 5."""
    tensors, changes = load_file(tiny_models.kohya), read_lora(tiny_models.kohya)
    key = "lora_te_text_model_encoder_layers_1_self_attn_v_proj"
    up, down = tensors[f"{key}.lora_up.weight"], tensors[f"{key}.lora_down.weight"]
    expected = tensors[f"{key}.alpha"].item() / down.shape[0] * (up @ down)
    change = changes[Target("text_encoder", "encoder_layers_1_self_attn_v_proj")]
    assert torch.allclose(added(change, expected.shape), expected, atol=1e-6)


def added(change: Change, shape: tuple[int, ...]) -> torch.Tensor:
    """What the change adds to a weight at strength 1."""
    weight = torch.zeros(shape)
    change.add_to(weight, 1.0)
    return weight


@pytest.mark.parametrize("low_rank", [True, False])
@pytest.mark.parametrize("shape", [(320, 320), (320, 1280), (640, 320, 3, 3), (321, 77), (1001, 999)])
def test_merging_gives_the_same_bits_in_however_many_threads(shape: tuple[int, ...], low_rank: bool) -> None:
    """A model that is read ahead is merged by one thread, another by all: they have to be the same model."""
    columns, before = math.prod(shape[1:]), torch.get_num_threads()
    factors = Factors(down=torch.randn(64, columns), up=torch.randn(shape[0], 64), scale=0.3)
    change: Change = factors if low_rank else Difference(torch.randn(shape).half())
    pristine, merged = torch.randn(shape), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            merged.append(pristine.clone())
            change.add_to(merged[-1], 0.7)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(merged[0], other) for other in merged[1:])


RENAMED: list[tuple[str, Callable[[str, str], str]]] = [
    ("peft", lambda path, part: f"unet.{path}.lora_{'A' if part == 'down' else 'B'}.weight"),
    ("diffusers", lambda path, part: f"unet.{path}.lora.{part}.weight"),
    ("kohya", lambda path, part: f"lora_unet_{path.replace('.', '_')}.lora_{part}.weight"),
    (
        "attention processors",
        lambda path, part: f"unet.{path.replace('.to_q', '.processor.to_q')}_lora.{part}.weight",
    ),
    (
        "attention processors of no network",
        lambda path, part: f"{path.replace('.to_q', '.processor.to_q')}_lora.{part}.weight",
    ),
    ("peft alone", lambda path, part: f"base_model.model.{path}.lora_{'A' if part == 'down' else 'B'}.weight"),
    ("ComfyUI", lambda path, part: f"diffusion_model.{path}.lora_{part}.weight"),
]


@pytest.mark.parametrize("rename", [name for _, name in RENAMED], ids=[name for name, _ in RENAMED])
def test_every_naming_scheme_reads_to_the_same_change(
    tiny_models: TinyModels, tmp_path: Path, rename: Callable[[str, str], str]
) -> None:
    unet = StableDiffusionPipeline.from_pretrained(tiny_models.base, safety_checker=None).unet
    path = next(name for name, _ in lora_targets(unet) if name.endswith("attn1.to_q"))
    down, up = torch.ones(2, 64), torch.ones(64, 2)
    save_file({rename(path, "down"): down, rename(path, "up"): up}, tmp_path / "lora.safetensors")
    ((target, factors),) = read_lora(tmp_path / "lora.safetensors").items()
    assert target == Target("unet", path.replace(".", "_"))
    assert torch.equal(added(factors, (64, 64)), up @ down)


@pytest.mark.parametrize("letter", ["q", "k", "v", "out"])
def test_a_text_encoders_attention_may_have_the_names_that_diffusers_gave_it_in_2023(
    tiny_models: TinyModels, tmp_path: Path, letter: str
) -> None:
    layer = "text_encoder.text_model.encoder.layers.0.self_attn"
    down, up = torch.ones(2, 32), torch.ones(32, 2)
    old = {f"{layer}.to_{letter}_lora.down.weight": down, f"{layer}.to_{letter}_lora.up.weight": up}
    save_file(old, tmp_path / "lora.safetensors")
    encoder = ReadNetwork(CLIPTextModel.from_pretrained(tiny_models.base / "text_encoder"))
    merge_lora({"text_encoder": encoder}, read_lora(tmp_path / "lora.safetensors"), 1.0)
    ((name, [update]),) = encoder.updates.items()
    assert name.endswith(f"encoder.layers.0.self_attn.{letter}_proj.weight")
    weight = torch.zeros(32, 32)
    update(weight)
    assert torch.equal(weight, up @ down)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("family", [Family.SD15, Family.SDXL])
def test_what_comfyui_adds_to_every_weight_and_bias_is_added(family: Family, whole: bool, tmp_path: Path) -> None:
    """Checked by hand: diffusers reads neither such files' text encoders nor whole differences of weights."""
    made = pipeline(family)
    changes = draw_whole_changes(made, 4)
    save_comfyui_lora(made, tmp_path / "lora.safetensors", changes, whole=whole)
    networks = {name: ReadNetwork(getattr(made, name)) for name, _ in changes}
    merge_lora(networks, read_lora(tmp_path / "lora.safetensors"), 0.7)
    for (network, name), change in changes.items():
        weight = getattr(made, network).get_parameter(name)
        assert torch.allclose(networks[network].updated(name, weight), weight + 0.7 * whole_change(change), atol=1e-5)


@pytest.mark.parametrize(
    ("ending", "parameter"), [("diff", "weight"), ("diff_b", "bias"), ("w_norm", "weight"), ("b_norm", "bias")]
)
def test_what_lycoris_adds_to_a_whole_weight_or_bias_is_read(tmp_path: Path, ending: str, parameter: str) -> None:
    values = torch.randn(64)
    save_file({f"lora_unet_mid_block_attentions_0_norm.{ending}": values}, tmp_path / "lora.safetensors")
    ((target, change),) = read_lora(tmp_path / "lora.safetensors").items()
    assert target == Target("unet", "mid_block_attentions_0_norm", parameter)
    assert torch.equal(added(change, (64,)), values)


@pytest.mark.parametrize(
    ("values", "complaint"), [(torch.ones(3), r"\(3,\)"), (torch.tensor([torch.nan]), "not finite")]
)
def test_a_whole_difference_that_does_not_fit_or_holds_no_numbers_is_refused(
    tiny_models: TinyModels, tmp_path: Path, values: Tensor, complaint: str
) -> None:
    save_file({"unet.mid_block.attentions.0.norm.diff_b": values}, tmp_path / "lora.safetensors")
    unet = ReadNetwork(StableDiffusionPipeline.from_pretrained(tiny_models.base, safety_checker=None).unet)
    with pytest.raises(LoraError, match=complaint):
        merge_lora({"unet": unet}, read_lora(tmp_path / "lora.safetensors"), 1.0)


def test_alpha_in_the_metadata_of_newer_diffusers_counts(tmp_path: Path) -> None:
    metadata = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 8})}
    tensors = {"unet.mid.to_q.lora_A.weight": torch.ones(2, 4), "unet.mid.to_q.lora_B.weight": torch.ones(4, 2)}
    save_file(tensors, tmp_path / "lora.safetensors", metadata=metadata)
    (factors,) = read_lora(tmp_path / "lora.safetensors").values()
    assert factors.scale == 4.0


def test_strengths_add_up_from_pristine_weights(tiny_models: TinyModels) -> None:
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    none, one, both = (
        weight(load(tiny_models, "tiny-lora", *adapters), layer)
        for adapters in (
            (),
            (Adapter(name="flat", strength=0.5),),
            (Adapter(name="flat", strength=0.5), Adapter(name="noto", strength=-1.0)),
        )
    )
    only = weight(load(tiny_models, "tiny-lora", Adapter(name="noto", strength=-1.0)), layer)
    assert torch.allclose(both - none, (one - none) + (only - none), atol=1e-5)


def test_a_lora_for_another_shape_is_refused_with_the_layer_and_changes_nothing(
    tiny_models: TinyModels, copied: TinyModels
) -> None:
    save_file(
        {
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight": torch.ones(4, 320),
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight": torch.ones(320, 4),
        },
        copied.kohya,
    )
    assert "attn1_to_q" in misfit(copied, "tiny", Adapter(name="flat")).detail
    unet = StableDiffusionPipeline.from_pretrained(tiny_models.base, safety_checker=None).unet
    read = ReadNetwork(unet)
    mixed = {**read_lora(tiny_models.lcm_lora), **read_lora(copied.kohya)}
    with pytest.raises(LoraError):
        merge_lora({"unet": read}, mixed, 1.0)
    assert not read.updates


@pytest.mark.parametrize(
    "key",
    [
        "lora_unet_mid_block.hada_w1_a",
        "lora_unet_mid_block.dora_scale",
        "something.else",
        "unet.x.lora_magnitude_vector",
    ],
)
def test_an_algorithm_that_is_no_lora_is_refused_by_its_key(copied: TinyModels, key: str) -> None:
    save_file({key: torch.ones(2, 2)}, copied.kohya)
    assert key in misfit(copied, "tiny", Adapter(name="flat")).detail


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16])
def test_a_lora_of_few_bits_is_read_however_large_the_sum_of_its_values(tmp_path: Path, dtype: torch.dtype) -> None:
    down, up = torch.full((4, 64), 256.0, dtype=dtype), torch.full((64, 4), 256.0, dtype=dtype)
    tensors = {"unet.mid.to_q.lora_A.weight": down, "unet.mid.to_q.lora_B.weight": up}
    save_file(tensors, tmp_path / "lora.safetensors")
    (factors,) = read_lora(tmp_path / "lora.safetensors").values()
    assert torch.equal(added(factors, (64, 64)), torch.full((64, 64), 4 * 256.0**2))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.float32])
def test_a_lora_that_holds_no_numbers_is_refused(copied: TinyModels, dtype: torch.dtype) -> None:
    broken = torch.tensor([[1.0, torch.nan]], dtype=dtype)
    tensors = {"unet.mid.to_q.lora_A.weight": broken, "unet.mid.to_q.lora_B.weight": broken.T.clone()}
    save_file(tensors, copied.kohya)
    assert "not finite" in refusal(copied, "tiny", Adapter(name="flat")).reason


ODD_RANKS = {
    "of rank 0": {"down": torch.ones(0, 2), "up": torch.ones(2, 0)},
    "not finite": {"down": torch.ones(2, 2), "up": torch.ones(2, 2), "alpha": torch.tensor(torch.nan)},
}


@pytest.mark.parametrize("reason", ODD_RANKS)
def test_a_lora_whose_scale_is_no_number_is_refused(copied: TinyModels, reason: str) -> None:
    names = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha"}
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    save_file({f"{layer}.{names[part]}": tensor for part, tensor in ODD_RANKS[reason].items()}, copied.kohya)
    assert reason in refusal(copied, "tiny", Adapter(name="flat")).reason


@pytest.mark.parametrize("alpha", ["NaN", "-Infinity", "1e400", str(10**400)])
def test_an_alpha_in_the_metadata_that_is_no_number_is_refused(copied: TinyModels, alpha: str) -> None:
    layer = "unet.mid_block.attentions.0.proj_in"
    tensors = {f"{layer}.lora_A.weight": torch.ones(2, 2), f"{layer}.lora_B.weight": torch.ones(2, 2)}
    save_file(tensors, copied.kohya, metadata={"lora_adapter_metadata": f'{{"unet.lora_alpha": {alpha}}}'})
    assert refusal(copied, "tiny", Adapter(name="flat")).path == str(copied.kohya)


def test_half_a_lora_is_refused(copied: TinyModels) -> None:
    save_file({"unet.mid_block.attentions.0.proj_in.lora_A.weight": torch.ones(2, 2)}, copied.kohya)
    assert "only down" in refusal(copied, "tiny", Adapter(name="flat")).reason


# -- files that cannot be used -----------------------------------------------------------------------------------------


def test_weights_that_are_not_here_are_named_with_the_way_to_get_them(tiny_models: TinyModels, tmp_path: Path) -> None:
    with pytest.raises(InferenceError) as refused:
        load(tiny_models, "absent")
    assert isinstance(refused.value.failure, WeightsMissing)
    text = tiny_models.catalog.read_text().replace('{ path = "nowhere" }', '{ hub = "nobody/nothing" }')
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(InferenceError) as refused:
        load(TinyModels(tmp_path), "absent")
    assert isinstance(refused.value.failure, WeightsMissing)
    assert "python -m inference pull absent" in refused.value.failure.path


UNET = Path("unet", "diffusion_pytorch_model.safetensors")


def truncated(folder: Path) -> None:
    content = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(content[: len(content) // 2])


def garbled_header(folder: Path) -> None:
    content = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(content[:8] + b"\xff" * 64 + content[72:])


def hundred_gigabyte_header(folder: Path) -> None:
    (folder / UNET).write_bytes((100 * 2**30).to_bytes(8, "little") + b"{}")


def empty(folder: Path) -> None:
    (folder / UNET).write_bytes(b"")


def not_a_number(folder: Path) -> None:
    tensors = load_file(folder / UNET)
    tensors["conv_in.weight"][0, 0, 0, 0] = torch.nan
    save_file(tensors, folder / UNET, metadata={"format": "pt"})


def missing_layer(folder: Path) -> None:
    tensors = load_file(folder / UNET)
    del tensors["conv_in.weight"]
    save_file(tensors, folder / UNET, metadata={"format": "pt"})


def other_shape(folder: Path) -> None:
    tensors = load_file(folder / UNET)
    tensors["conv_in.weight"] = torch.ones(320, 4, 3, 3)
    save_file(tensors, folder / UNET, metadata={"format": "pt"})


def pickle_only(folder: Path) -> None:
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.bin")


def pickle_listed(folder: Path) -> None:
    """The libraries read what the list names, whatever lies beside it."""
    weights = load_file(folder / UNET)
    shard = folder / "unet" / "diffusion_pytorch_model-00001-of-00001.safetensors"
    (folder / UNET).rename(shard)
    torch.save(weights, folder / "unet" / "other.bin")
    listed = {"metadata": {}, "weight_map": dict.fromkeys(weights, "other.bin")}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(listed))


def pickle_listed_for_the_text(folder: Path) -> None:
    """The configuration has transformers follow the list although there is a whole file."""
    name = "model.safetensors.index.json"
    leave_list(folder / "text_encoder", name, "other.bin")
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    (folder / "text_encoder" / "config.json").write_text(json.dumps({**config, "transformers_weights": name}))


def leave_list(folder: Path, name: str, file: str) -> None:
    """A list by which all weights of the network in ``folder`` lie in ``file``."""
    [weights] = folder.glob("*.safetensors")
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(load_file(weights), file)}))


def adapter_beside_the_text(folder: Path) -> None:
    """Its files are no weights of the network; transformers merges them all the same."""
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
    adapted = get_peft_model(encoder, LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(str(folder / "text_encoder"))


def own_code(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["my_unet", "MyUNet"]
    index["vae"] = ["my_vae", "MyVae"]
    (folder / "model_index.json").write_text(json.dumps(index))


def garbled_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("[1, 2")


def garbled_config(folder: Path) -> None:
    (folder / "unet" / "config.json").write_text("{}}")


def no_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")


def garbled_schedule(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text('{"beta_schedule": "magic"}')


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        garbled_header,
        hundred_gigabyte_header,
        empty,
        not_a_number,
        missing_layer,
        other_shape,
        pickle_only,
        pickle_listed,
        pickle_listed_for_the_text,
        adapter_beside_the_text,
        own_code,
        garbled_index,
        garbled_config,
        no_tokenizer,
        garbled_schedule,
    ],
)
def test_damaged_files_are_refused_with_a_reason_and_other_models_still_load(
    copied: TinyModels, damage: Callable[[Path], None]
) -> None:
    damage(copied.native)
    failure = refusal(copied, "tiny")
    assert failure.model == "tiny"
    assert failure.path.startswith(str(copied.native))
    assert failure.reason
    assert load(copied, "tiny-lora").unet is not None


def test_a_list_that_is_left_over_beside_a_whole_file_is_heeded_where_the_library_heeds_it(copied: TinyModels) -> None:
    gone = "{}-00001-of-00002.safetensors"
    leave_list(copied.native / "text_encoder", "model.safetensors.index.json", gone.format("model"))
    assert load(copied, "tiny").unet is not None
    name = "diffusion_pytorch_model"
    leave_list(copied.native / "unet", f"{name}.safetensors.index.json", gone.format(name))
    assert "names diffusion_pytorch_model-00001-of-00002.safetensors" in refusal(copied, "tiny").reason


def test_a_damaged_lora_is_refused_by_its_own_path(copied: TinyModels) -> None:
    copied.kohya.write_bytes(b"nonsense")
    assert refusal(copied, "tiny", Adapter(name="flat")).path == str(copied.kohya)
