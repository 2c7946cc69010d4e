"""Recipes in PNGs: nothing is lost, other programs read them, and hostile files do no harm."""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sd_parsers import ParserManager
from sd_parsers.data import PromptInfo

from inference.contract import Adapter, Variation
from inference.errors import InferenceError, NotAPicture
from inference.pictures import infotext
from inference.pictures.infotext import Infotext
from inference.pictures.recipe import A1111_KEY, OUR_KEY, Recipe, library_versions, read_pixels, read_recipe
from inference.pictures.saving import encode_png

PIXELS = np.arange(16 * 8 * 3, dtype=np.uint8).reshape(8, 16, 3)

AWKWARD = [
    "a red apple",
    "a cat, a dog, and: a mouse",
    "first line\nsecond line: with colon, and comma",
    "ein grüner Apfel 🍏 от яблони 林檎",
    'quotes "inside" and \\backslashes\\',
    "Steps: 1, Sampler: Euler, CFG scale: 1, Seed: 1, Size: 1x1",
    "a sign that says Negative prompt: none",
    "<lora:style:0.8> (word:1.2)",
]


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        prompt="a red apple",
        negative="blurry, dark",
        model="tiny",
        weights="0123456789abcdef" * 4,
        adapters=(Adapter(name="flat", strength=0.8), Adapter(name="noto", strength=-1.0)),
        seed=2**32 - 1,
        steps=4,
        guidance=1.5,
        width=512,
        height=768,
        bucket=4,
        guided_bucket=2,
        precision="bfloat16",
        device="cpu",
        threads=2,
        versions=library_versions(),
    )


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "picture.png"
    path.write_bytes(content)
    return path


def with_texts(folder: Path, **texts: str) -> Path:
    info, buffer = PngInfo(), io.BytesIO()
    for key, text in texts.items():
        info.add_text(key.replace("_", "-"), text)
    Image.fromarray(PIXELS).save(buffer, "PNG", pnginfo=info)
    return saved(folder, buffer.getvalue())


def refusal(path: Path) -> str:
    with pytest.raises(InferenceError) as refused:
        read_recipe(path)
    assert isinstance(refused.value.failure, NotAPicture)
    return refused.value.failure.reason


# -- ours --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", AWKWARD)
def test_a_recipe_comes_back_from_a_png_as_it_went_in(tmp_path: Path, recipe: Recipe, prompt: str) -> None:
    asked = replace(recipe, prompt=prompt, negative=prompt[::-1])
    assert read_recipe(saved(tmp_path, encode_png(PIXELS, asked))) == asked


@given(
    prompt=st.text(max_size=300), negative=st.text(max_size=100), guidance=st.floats(0, 20), seed=st.integers(0, 2**32)
)
def test_any_text_and_number_survives_json(prompt: str, negative: str, guidance: float, seed: int) -> None:
    recipe = Recipe(
        prompt=prompt,
        negative=negative,
        model="m",
        weights="",
        adapters=(),
        seed=seed,
        steps=1,
        guidance=guidance,
        width=8,
        height=8,
        bucket=1,
        guided_bucket=0,
        precision="float32",
        device="cpu",
        threads=1,
    )
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_the_pixels_in_the_png_are_those_that_were_drawn(tmp_path: Path, recipe: Recipe) -> None:
    assert read_pixels(saved(tmp_path, encode_png(PIXELS, recipe))) == PIXELS.tobytes()


def test_a_recipe_is_an_order_for_one_picture_in_its_own_buckets(recipe: Recipe) -> None:
    request = recipe.request()
    assert (request.count, request.seed, request.adapters) == (1, recipe.seed, recipe.adapters)
    assert (request.bucket, request.guided_bucket) == (4, 2)


@pytest.mark.parametrize(("guidance", "guided_bucket"), [(1.5, 4), (1.0, 0)])
def test_a_recipe_from_before_there_were_two_buckets_had_one_size_for_both_passes(
    tmp_path: Path, recipe: Recipe, guidance: float, guided_bucket: int
) -> None:
    old = json.loads(replace(recipe, guidance=guidance).to_json()) | {"schema": 1}
    del old["guided_bucket"], old["variation"]
    found = read_recipe(with_texts(tmp_path, **{OUR_KEY: json.dumps(old)}))
    assert found == replace(recipe, guidance=guidance, guided_bucket=guided_bucket)


def test_a_recipe_from_before_there_were_variations_has_none(tmp_path: Path, recipe: Recipe) -> None:
    old = json.loads(recipe.to_json()) | {"schema": 2}
    del old["variation"]
    assert read_recipe(with_texts(tmp_path, **{OUR_KEY: json.dumps(old)})) == recipe


def test_brackets_in_a_recipe_from_before_they_meant_anything_mean_nothing(tmp_path: Path, recipe: Recipe) -> None:
    asked = replace(recipe, prompt="a (red:1.3) apple", negative="[blur]")
    old = json.loads(asked.to_json()) | {"schema": 3}
    found = read_recipe(with_texts(tmp_path, **{OUR_KEY: json.dumps(old)}))
    assert found == replace(recipe, prompt=r"a \(red:1.3\) apple", negative=r"\[blur\]")
    assert read_recipe(with_texts(tmp_path, **{OUR_KEY: asked.to_json()})) == asked


def test_a_variation_comes_back_from_a_png_and_is_ordered_again(tmp_path: Path, recipe: Recipe) -> None:
    asked = replace(recipe, variation=Variation(seed=77, strength=0.2))
    found = read_recipe(saved(tmp_path, encode_png(PIXELS, asked)))
    assert found == asked
    assert asked.request().variation == asked.variation


# -- AUTOMATIC1111's ---------------------------------------------------------------------------------------------------


def parsed(path: Path) -> PromptInfo:
    """As a third party reads it."""
    info = ParserManager().parse(path)
    assert info is not None
    return info


@pytest.mark.parametrize("prompt", AWKWARD)
@pytest.mark.parametrize("negative", ["", "blurry, dark: very\nugly"])
def test_another_programs_parser_reads_the_same(tmp_path: Path, recipe: Recipe, prompt: str, negative: str) -> None:
    asked = replace(recipe, prompt=prompt, negative=negative)
    info = parsed(saved(tmp_path, encode_png(PIXELS, asked)))
    (sampler,) = info.samplers
    assert [text.value for text in sampler.prompts] == [prompt.replace("Negative prompt:", "Negative prompt -")]
    assert [text.value for text in sampler.negative_prompts] == ([negative] if negative else [])
    assert sampler.name == "LCM"
    assert sampler.model is not None
    assert (sampler.model.name, sampler.model.hash) == ("tiny", None)
    assert {key: sampler.parameters[key] for key in ("steps", "seed", "cfg_scale")} == {
        "steps": "4",
        "seed": str(2**32 - 1),
        "cfg_scale": "1.5",
    }
    assert info.metadata["Size"] == "512x768"
    assert info.metadata["RNG"] == "CPU"


@pytest.mark.parametrize("prompt", [text for text in AWKWARD if "Negative prompt:" not in text])
def test_the_settings_text_reads_back_by_the_web_uis_rules(recipe: Recipe, prompt: str) -> None:
    info = Infotext(
        prompt=prompt,
        negative="dark: very\nugly",
        steps=4,
        sampler="LCM",
        guidance=1.5,
        seed=7,
        width=512,
        height=768,
        model='a model, "quoted": twice',
        variation=Variation(seed=77, strength=0.2),
        adapters="flat: 0.8, noto: -1",
        version="test",
    )
    assert infotext.read(infotext.write(info)) == info


def test_a_picture_of_the_web_ui_tells_what_it_can(tmp_path: Path) -> None:
    text = (
        "masterpiece, <lora:x:0.8> an owl\nNegative prompt: blurry\n"
        'Steps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 42, Size: 512x768, Model: v1-5, Lora hashes: "x: ab, y: cd"'
    )
    info = read_recipe(with_texts(tmp_path, **{A1111_KEY: text}))
    assert isinstance(info, Infotext)
    assert (info.prompt, info.negative) == ("masterpiece, <lora:x:0.8> an owl", "blurry")
    assert (info.seed, info.width, info.height, info.guidance) == (42, 512, 768, 7.0)


# -- files of other people ---------------------------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks: bytes, width: int = 16, height: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a" + b"\0" * 64,
        png()[:40],
        png(chunk(b"tEXt", b"parameters")),
        png(b"\xff\xff\xff\xfftEXt"),
        png(chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"x" * 200_000_000, 9))),
        png(chunk(b"iTXt", OUR_KEY.encode() + b"\0\1\0\0\0" + zlib.compress(b"x" * 50_000_000))),
        png(chunk(b"iTXt", OUR_KEY.encode() + b"\0\0\0\0\0\xff\xfe")),
    ],
)
def test_what_is_no_png_or_a_bomb_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refusal(saved(tmp_path, content))


def test_a_picture_of_thousands_of_empty_parts_is_not_read(tmp_path: Path, recipe: Recipe) -> None:
    whole = encode_png(PIXELS, recipe)
    header = len(png()) - len(chunk(b"IEND", b""))
    for parts, is_read in ((100, True), (5000, False)):
        path = saved(tmp_path, whole[:header] + chunk(b"prVt", b"") * parts + whole[header:])
        if is_read:
            assert read_recipe(path) == recipe
        else:
            with pytest.raises(InferenceError):
                read_recipe(path)


def test_a_picture_without_a_recipe_says_so(tmp_path: Path) -> None:
    assert refusal(with_texts(tmp_path)) == "nothing in it says how it was drawn"
    assert refusal(with_texts(tmp_path, **{A1111_KEY: "just a prompt"}))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing.png") == "there is no such file"


def test_a_gigantic_picture_is_not_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path, png(chunk(b"IDAT", zlib.compress(b"")), width=100_000, height=1_000))
    with pytest.raises(InferenceError) as refused:
        read_pixels(path)
    assert isinstance(refused.value.failure, NotAPicture)


def test_of_a_gigantic_picture_not_even_the_recipe_is_read(tmp_path: Path, recipe: Recipe) -> None:
    whole, header = encode_png(PIXELS, recipe), len(png()) - len(chunk(b"IEND", b""))
    large = png(width=8_192, height=8_192)[:header] + whole[header:]
    assert read_recipe(saved(tmp_path, large)) == recipe
    larger = png(width=8_192, height=8_193)[:header] + whole[header:]
    with pytest.raises(InferenceError) as refused:
        read_recipe(saved(tmp_path, larger))
    assert isinstance(refused.value.failure, NotAPicture)


def test_a_truncated_picture_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, encode_png(noisy, recipe)[:-4000])
    with pytest.raises(InferenceError) as refused:
        read_pixels(path)
    assert isinstance(refused.value.failure, NotAPicture)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 5},
        {"schema": 2},
        {"schema": []},
        {"schema": 1},
        {"seed": "7"},
        {"seed": True},
        {"seed": 7.5},
        {"guidance": "1"},
        {"guidance": float("nan")},
        {"guidance": float("inf")},
        {"guidance": 10**400},
        {"prompt": "half a character: \ud800"},
        {"prompt": None},
        {"prompt": ["a"]},
        {"adapters": {"flat": 1}},
        {"adapters": [{"name": "flat"}]},
        {"adapters": [{"name": "flat", "strength": "1"}]},
        {"adapters": [{"name": "flat", "strength": float("nan")}]},
        {"variation": 5},
        {"variation": {"seed": 5}},
        {"variation": {"seed": 5, "strength": "much"}},
        {"variation": {"seed": 5.5, "strength": 0.5}},
        {"versions": "torch"},
        {"versions": [1]},
        {"extra": 1},
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path: Path, recipe: Recipe, change: dict[str, object]) -> None:
    text = json.dumps({**json.loads(recipe.to_json()), **change})
    assert refusal(with_texts(tmp_path, **{OUR_KEY: text}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 50_000, "7" * 60_000, '{"schema": 1}', "x" * 100_000])
def test_text_that_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    assert refusal(with_texts(tmp_path, **{OUR_KEY: text}))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_else_happens(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    refusal(saved(tmp_path_factory.mktemp("noise"), b"\x89PNG\r\n\x1a\n" + noise))


@given(st.text(max_size=400))
def test_any_settings_text_is_read_or_refused(text: str) -> None:
    try:
        info = infotext.read(text)
    except ValueError:
        return
    assert isinstance(info, Infotext)
