"""Which files of a pipeline are read: variants and shards are told apart by their names."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from inference.catalog.parts import are_whole, parts_named, texts_in, weights_in

UNET = [
    PurePosixPath("unet", name)
    for name in (
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.non_ema.safetensors",
        "diffusion_pytorch_model.bin",
        "older/diffusion_pytorch_model.safetensors",
    )
]
SHARDS = [
    PurePosixPath("unet", name)
    for name in (
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model-00002-of-00002.safetensors",
        "diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
    )
]
OTHERS = [
    PurePosixPath("unet", name)
    for name in (
        "sdxl_vae.safetensors",
        "taesd_encoder.safetensors",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model_v2.safetensors",
        "model-00001-of-00001.fp16.safetensors",
        "sdxl_vae.fp16.safetensors",
    )
]
FOLDER = PurePosixPath("unet")


@pytest.mark.parametrize(
    ("files", "variant", "expected"),
    [
        (UNET, None, ["diffusion_pytorch_model.safetensors"]),
        (UNET, "fp16", ["diffusion_pytorch_model.fp16.safetensors"]),
        (UNET, "int8", []),
        (SHARDS, None, [path.name for path in SHARDS[1:3]]),
        (SHARDS, "fp16", [SHARDS[3].name]),
        (OTHERS, None, ["diffusion_pytorch_model.safetensors"]),
        (OTHERS, "fp16", ["model-00001-of-00001.fp16.safetensors"]),
    ],
)
def test_weights_are_those_of_the_variant_in_the_folder_itself(
    files: list[PurePosixPath], variant: str | None, expected: list[str]
) -> None:
    assert [path.name for path in weights_in(FOLDER, files, variant)] == expected


@pytest.mark.parametrize(
    ("files", "whole"),
    [([], False), (SHARDS[1:2], False), (SHARDS[1:3], True), (SHARDS[3:], True), (UNET[1:2], True)],
)
def test_weights_are_whole_when_every_file_is_there_that_they_are_split_over(
    files: list[PurePosixPath], whole: bool
) -> None:
    assert are_whole(files) is whole


def test_configurations_come_with_the_index_of_the_shards() -> None:
    assert [path.name for path in texts_in(FOLDER, UNET + SHARDS)] == ["config.json", SHARDS[0].name]


def test_of_an_index_only_the_parts_that_are_read_and_present_count() -> None:
    index = """{"_class_name": "X", "unet": ["diffusers", "U"], "tokenizer": ["transformers", "T"],
                "safety_checker": ["x", "S"], "vae": [null, null]}"""
    assert parts_named(index) == ("tokenizer", "unet")
    with pytest.raises(ValueError, match="no table"):
        parts_named("[]")
