"""Which models a LoRA fits, told from the names and shapes in its header; the depths are those of the real networks."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from inference.catalog.entries import Family
from inference.catalog.header import Header
from inference.catalog.recognise import What, recognise


def peft(block: str, depth: int) -> list[str]:
    return [f"unet.{block}.transformer_blocks.{number}.attn2.to_k.lora_A.weight" for number in range(depth)]


def kohya(block: str, depth: int) -> list[str]:
    return [f"lora_unet_{block}_transformer_blocks_{number}_attn2_to_k.lora_down.weight" for number in range(depth)]


def whole(lowest: int, middle: int) -> list[str]:
    """Everything in a denoiser of SDXL's kind with so many blocks in the lowest level and in the middle."""
    down = [name for number in (0, 1) for name in peft(f"down_blocks.2.attentions.{number}", lowest)]
    return [*down, *peft("up_blocks.0.attentions.2", lowest), *peft("mid_block.attentions.0", middle)]


def family_of(names: Iterable[str]) -> Family | None:
    return recognise(Header(shapes=dict.fromkeys(names, (4, 2048)), metadata={})).family


@pytest.mark.parametrize(
    ("lowest", "middle", "family"), [(10, 10, Family.SDXL), (4, 0, Family.SSD1B), (2, 0, Family.VEGA)]
)
def test_sdxl_and_its_relatives_are_told_by_their_depth(lowest: int, middle: int, family: Family) -> None:
    assert family_of(whole(lowest, middle)) is family


@pytest.mark.parametrize(
    "names",
    [
        [*peft("up_blocks.0.attentions.0", 10), *peft("up_blocks.0.attentions.1", 10)],
        [*kohya("output_blocks_0_1", 10), *kohya("output_blocks_1_1", 10)],
        kohya("input_blocks_8_1", 10),
        kohya("input_blocks_4_1", 2),
        kohya("middle_block_1", 1),
        ["lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight"],
    ],
    ids=["B-LoRA", "up alone", "the second block alone", "a higher level alone", "the middle alone", "text alone"],
)
def test_a_lora_that_changes_only_some_blocks_of_sdxl_is_one_for_sdxl(names: list[str]) -> None:
    assert family_of(names) is Family.SDXL


BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0.attn2"
NAMINGS = (
    f"unet.{BLOCK}.to_k.lora_A.weight",
    f"unet.{BLOCK}.to_k.lora.down.weight",
    f"unet.{BLOCK}.processor.to_k_lora.down.weight",
    f"{BLOCK}.processor.to_k_lora.down.weight",
    f"base_model.model.{BLOCK}.to_k.lora_A.weight",
    f"lora_unet_{BLOCK.replace('.', '_')}_to_k.lora_down.weight",
    "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.lora_down.weight",
    "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.diff",
)


@pytest.mark.parametrize("name", NAMINGS)
def test_the_width_of_the_text_that_a_lora_reads_tells_its_family_in_every_naming_scheme(name: str) -> None:
    for width, family in ((768, Family.SD15), (1024, Family.SD21), (2048, Family.SDXL), (4096, None)):
        assert recognise(Header(shapes={name: (4, width)}, metadata={})).family is family


@pytest.mark.parametrize(
    ("encoder", "width", "family"),
    [
        ("lora_te_{}_q_proj.lora_down.weight", 768, Family.SD15),
        ("lora_te_{}_q_proj.lora_down.weight", 1024, Family.SD21),
        ("text_encoder.{}.to_q_lora.down.weight", 768, Family.SD15),
        ("text_encoders.clip_l.transformer.{}.q_proj.lora_down.weight", 768, Family.SD15),
        ("text_encoders.clip_l.transformer.{}.q_proj.diff", 768, Family.SD15),
        ("lora_te2_{}_q_proj.lora_down.weight", 1280, Family.SDXL),
        ("text_encoders.clip_g.transformer.{}.q_proj.lora_down.weight", 1280, Family.SDXL),
        ("text_encoders.clip_g.transformer.{}.q_proj.diff", 1280, Family.SDXL),
    ],
)
def test_a_lora_of_a_text_encoder_alone_is_told_by_which_it_is_and_its_width(
    encoder: str, width: int, family: Family
) -> None:
    layer = "text_model.encoder.layers.0.self_attn"
    name = encoder.format(layer if encoder.startswith("text_encoder") else layer.replace(".", "_"))
    info = recognise(Header(shapes={name: (width, width)}, metadata={}))
    assert (info.what, info.family, info.undrawable) == (What.LORA, family, None)


def slider(*blocks: str) -> dict[str, tuple[int, ...]]:
    """What a slider changes that was trained to leave alone all that reads text."""
    return {f"lora_unet_{block}_transformer_blocks_0_attn1_to_k.lora_down.weight": (4, 320) for block in blocks}


SD_TOP = "down_blocks_0_attentions_0"
PROJ_IN = f"lora_unet_{SD_TOP}_proj_in.lora_down.weight"
DEEP = "lora_unet_{}_attn1_to_k.lora_down.weight"


@pytest.mark.parametrize(
    ("shapes", "metadata", "family"),
    [
        (slider(SD_TOP, "mid_block_attentions_0"), {}, Family.SD15),
        (slider("input_blocks_1_1"), {"ss_v2": "False"}, Family.SD15),
        (slider(SD_TOP) | {PROJ_IN: (4, 320, 1, 1)}, {}, Family.SD15),
        (slider(SD_TOP) | {PROJ_IN: (4, 320)}, {}, Family.SD21),
        (slider(SD_TOP), {"ss_v2": "True"}, Family.SD21),
        (slider("input_blocks_2_1"), {"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, Family.SD21),
        ({DEEP.format("down_blocks_2_attentions_1_transformer_blocks_9"): (4, 1280)}, {}, Family.SDXL),
        ({DEEP.format("middle_block_1_transformer_blocks_1"): (4, 1280)}, {}, Family.SDXL),
        ({DEEP.format("input_blocks_8_1_transformer_blocks_3"): (4, 1280)}, {}, Family.SSD1B),
        ({DEEP.format("down_blocks_2_attentions_0_transformer_blocks_1"): (4, 1280)}, {}, Family.VEGA),
        (slider("down_blocks_1_attentions_0"), {}, None),
        (slider(SD_TOP) | {DEEP.format(SD_TOP).replace("attn1", "attn2"): (4, 4096)}, {}, None),
        ({"transformer.transformer_blocks.12.attn.to_q.lora_A.weight": (4, 1536)}, {}, None),
    ],
)
def test_a_lora_that_leaves_the_text_alone_is_told_by_the_blocks_it_changes(
    shapes: dict[str, tuple[int, ...]], metadata: dict[str, str], family: Family | None
) -> None:
    assert recognise(Header(shapes=shapes, metadata=metadata)).family is family
