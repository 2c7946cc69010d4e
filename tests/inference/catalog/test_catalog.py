"""The catalogue: what it accepts, what it refuses and how it words that, and what an order may ask of a model."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from inference.catalog import Catalog, CatalogError
from inference.catalog.entries import Family, Kind
from inference.contract import MAX_SEED, Adapter, ImageRequest
from inference.errors import (
    InferenceError,
    OutOfRange,
    PromptEmpty,
    PromptTooLong,
    SizeNotPossible,
    SizeUnreadable,
    UnknownAdapter,
    UnknownModel,
)
from inference.validation import check, known_as, parse_size, validate
from tests.checkpoints import CATALOG, TinyModels

SAFETY = '[safety]\nweights = { path = "classifier" }\n'
SHIPPED = Path(__file__).parents[3] / "models" / "models.toml"


def load(folder: Path, text: str) -> Catalog:
    path = folder / "models.toml"
    path.write_text(text, encoding="utf-8")
    return Catalog.load(path)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return load(tmp_path, CATALOG)


@pytest.fixture
def order() -> ImageRequest:
    return ImageRequest(prompt="a red apple", model="tiny", seed=7, count=1, steps=4, guidance=8.0, width=64, height=64)


def test_the_shipped_catalogue_loads_and_its_default_is_the_built_in_native_model() -> None:
    catalog = Catalog.load(SHIPPED)
    assert (catalog.default.name, catalog.default.family, catalog.default.kind) == ("emoji", Family.EMOJI, Kind.NATIVE)
    assert len([entry for entry in catalog if entry.family is Family.EMOJI]) >= 3


def test_what_is_not_built_in_is_checked_by_the_shipped_classifier() -> None:
    shipped = Catalog.load(SHIPPED)
    checkers = {entry.name: shipped.checker(entry) for entry in shipped}
    built_in = {"emoji", "emoji-lora", "emoji-flat", "emoji-ink"}
    assert {name for name, checker in checkers.items() if checker is None} == built_in
    assert {checker.hub for checker in checkers.values() if checker} == {"Falconsai/nsfw_image_detection"}


def test_every_shipped_entry_accepts_its_own_defaults() -> None:
    catalog = Catalog.load(SHIPPED)
    for entry in catalog:
        request = ImageRequest(
            prompt="a red apple",
            model=entry.name,
            seed=0,
            count=1,
            steps=int(entry.steps.default),
            guidance=entry.guidance.default,
            width=entry.width,
            height=entry.height,
        )
        assert check(request, catalog) is entry


def test_reading_the_catalogue_loads_no_torch() -> None:
    program = (
        "import sys; from pathlib import Path; from inference.catalog import Catalog; import inference.validation;"
        f"Catalog.load(Path({str(SHIPPED)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=SHIPPED.parents[1], check=False).returncode == 0


def test_paths_start_at_the_catalogues_own_folder(tmp_path: Path, catalog: Catalog) -> None:
    assert catalog["tiny"].weights.path == tmp_path / "tiny-lcm"


def test_guidance_follows_the_kind_unless_the_entry_says_otherwise(catalog: Catalog) -> None:
    assert (catalog["tiny"].guidance.default, catalog["tiny"].guidance.high) == (8.0, 13.0)
    assert (catalog["tiny-lora"].guidance.default, catalog["tiny-lora"].guidance.high) == (1.0, 2.0)


def test_negative_prompts_act_only_above_guidance_1_and_never_on_a_native_lcm(catalog: Catalog) -> None:
    assert not catalog["tiny"].negative_acts(8.0)
    assert not catalog["tiny-lora"].negative_acts(1.0)
    assert catalog["tiny-lora"].negative_acts(1.5)


@pytest.mark.parametrize("typed", ["tiny", "TINY", " Tiny ", "tiny-lora", "Tiny-LoRA"])
def test_what_people_type_finds_a_model_by_name_or_title_in_any_case(catalog: Catalog, typed: str) -> None:
    assert catalog.find(typed) is catalog[typed.strip().casefold()]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("tiny", "tiny"),
        ("TINY-LORA", "tiny-lora"),
        ("flat", "flat"),
        (" Flat  Colours ", "flat"),
        ("safety", "safety"),
    ],
)
def test_what_is_to_be_fetched_is_found_by_name_or_title(tmp_path: Path, typed: str, name: str) -> None:
    catalog = load(tmp_path, CATALOG.replace("[adapters.flat]", f'{SAFETY}[adapters.flat]\ntitle = "Flat colours"'))
    assert catalog.name_meant(typed) == name
    with pytest.raises(InferenceError, match="no model “nothing”"):
        catalog.name_meant("nothing")


def test_a_name_comes_before_a_title_that_is_the_same(tmp_path: Path) -> None:
    catalog = load(tmp_path, CATALOG.replace('title = "Tiny"', 'title = "Tiny-LoRA"'))
    assert catalog.find("Tiny-LoRA").name == "tiny-lora"


def test_loras_are_known_by_what_people_type(catalog: Catalog) -> None:
    typed = (Adapter(name="FLAT", strength=0.5), Adapter(name="flat", strength=0.2))
    assert known_as(typed, catalog, catalog.default) == (Adapter(name="flat", strength=0.2),)


def test_an_unknown_model_is_refused_with_the_names_there_are(catalog: Catalog) -> None:
    with pytest.raises(InferenceError) as refusal:
        catalog["nope"]
    assert isinstance(refusal.value.failure, UnknownModel)
    assert "tiny-lora" in refusal.value.failure.known


def test_a_lora_of_another_family_is_refused(catalog: Catalog) -> None:
    assert catalog.adapter("flat", Family.EMOJI).name == "flat"
    with pytest.raises(InferenceError) as refusal:
        catalog.adapter("flat", Family.SDXL)
    assert refusal.value.failure == UnknownAdapter(name="flat", known=())


def test_on_disk_tells_whether_all_parts_are_there(tiny_models: TinyModels) -> None:
    catalog = Catalog.load(tiny_models.catalog)
    assert {entry.name: catalog.on_disk(entry) for entry in catalog} == {
        "tiny": True,
        "tiny-lora": True,
        "tiny-flat": True,
        "tiny-xl": True,
        "tiny-xl-merged": True,
        "absent": False,
    }


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("[models.tiny-flat]", '[models."a:b"]', ["[models.a:b]", "name", "“:”"]),
        ("[models.tiny-flat]", f"[models.{'t' * 41}]", [f"[models.{'t' * 41}]", "name", "40 characters", "41"]),
        ("[adapters.flat]", f"[adapters.{'f' * 41}]", [f"[adapters.{'f' * 41}]", "name", "40 characters", "41"]),
        ('title = "Tiny"', 'title = " "', ["[models.tiny]", "title", "blank"]),
        ('title = "Tiny"', 'titel = "Tiny"', ["[models.tiny]", "titel", "unknown key"]),
        ('default = "tiny"', 'default = "nope"', ["default", "nope"]),
        ('default = "tiny"', 'colour = 1\ndefault = "tiny"', ["colour", "unknown key"]),
        ('kind = "native"', 'kind = "magic"', ["[models.tiny]", "kind", "magic", "native"]),
        ('family = "emoji"', "", ["[models.tiny]", "family", "missing"]),
        ("size = [64, 64]", "size = [64, 60]", ["[models.tiny]", "size", "multiples of 8"]),
        ("size = [64, 64]", "size = [256, 64]", ["[models.tiny]", "size", "sides"]),
        ("size = [64, 64]", 'size = "64x64"', ["[models.tiny]", "size", "two whole numbers"]),
        ('{ path = "tiny-lcm" }', '{ path = "a", hub = "b/c" }', ["[models.tiny] weights", "exactly one"]),
        ('{ path = "tiny-lcm" }', '{ hub = "../../etc" }', ["[models.tiny] weights", "owner/name"]),
        ('{ path = "tiny-lcm" }', '{ path = "a", trust = true }', ["[models.tiny] weights", "trust", "unknown key"]),
        ("styles = { flat = 1.0 }", "styles = { round = 1.0 }", ["[models.tiny-flat]", "styles", "round"]),
        ("styles = { flat = 1.0 }", "steps = { high = 51 }", ["[models.tiny-flat]", "steps", "50"]),
        ("styles = { flat = 1.0 }", "guidance = { default = 99 }", ["[models.tiny-flat]", "guidance", "99"]),
        ("styles = { flat = 1.0 }", 'lcm_lora = { path = "x" }', ["[models.tiny-flat]", "lcm_lora"]),
        ("[models.tiny]", "[models.tiny", ["models.toml"]),
        ("[models.tiny]", "[safety]\n[models.tiny]", ["[safety]", "weights", "missing"]),
        ("[models.tiny]", f"{SAFETY}labels = []\n[models.tiny]", ["[safety]", "labels", "at least one"]),
        ("[models.tiny]", f"{SAFETY}threshold = 0\n[models.tiny]", ["[safety]", "threshold", "above 0"]),
        ("[models.tiny]", f"{SAFETY}colour = 1\n[models.tiny]", ["[safety]", "colour", "unknown key"]),
        ("harmless = true", 'safety = "none"', ["[models.tiny]", "safety", "own"]),
        ("harmless = true", 'harmless = true\nsafety = "own"', ["[models.tiny]", "safety", "harmless"]),
        (
            '{ path = "tiny-lcm" }\nsize = [64, 64]\nsides = [32, 128]\nharmless = true',
            '{ path = "a.safetensors" }\nsize = [64, 64]\nsides = [32, 128]\nsafety = "own"',
            ["[models.tiny]", "safety", "diffusers folder"],
        ),
    ],
)
def test_a_mistake_in_the_file_is_named_with_entry_and_key(
    tmp_path: Path, before: str, after: str, words: list[str]
) -> None:
    assert before in CATALOG
    with pytest.raises(CatalogError) as refusal:
        load(tmp_path, CATALOG.replace(before, after, 1))
    for word in words:
        assert word in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"models\.toml"):
        Catalog.load(tmp_path / "models.toml")


def test_what_a_model_can_draw_passes(catalog: Catalog, order: ImageRequest) -> None:
    lora = replace(order, adapters=(Adapter(name="flat", strength=-2.0),), seed=MAX_SEED, count=4, bucket=8, width=128)
    for guided_bucket in (None, 0, 4, 8):
        assert check(replace(lora, guided_bucket=guided_bucket), catalog) is catalog["tiny"]


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"prompt": " \n "}, PromptEmpty),
        ({"prompt": "x" * 3_000}, PromptTooLong),
        ({"negative": "x" * 3_000}, PromptTooLong),
        ({"seed": -1}, OutOfRange),
        ({"seed": 2**32}, OutOfRange),
        ({"count": 0}, OutOfRange),
        ({"count": 5}, OutOfRange),
        ({"steps": 0}, OutOfRange),
        ({"steps": 9}, OutOfRange),
        ({"guidance": 2.0}, OutOfRange),
        ({"guidance": math.nan}, OutOfRange),
        ({"bucket": 1, "count": 2}, OutOfRange),
        ({"bucket": 1_000}, OutOfRange),
        ({"guided_bucket": 1, "count": 2}, OutOfRange),
        ({"bucket": 4, "guided_bucket": 8}, OutOfRange),
        ({"adapters": (Adapter(name="flat", strength=3.0),)}, OutOfRange),
        ({"adapters": (Adapter(name="nope"),)}, UnknownAdapter),
        ({"model": "nope"}, UnknownModel),
        ({"width": 60}, SizeNotPossible),
        ({"height": 2_048}, SizeNotPossible),
        ({"width": 0}, SizeNotPossible),
    ],
)
def test_what_a_model_cannot_draw_is_refused(
    catalog: Catalog, order: ImageRequest, change: dict[str, object], failure: type
) -> None:
    with pytest.raises(InferenceError) as refusal:
        check(replace(order, **change), catalog)  # type: ignore[arg-type]
    assert isinstance(refusal.value.failure, failure)


@pytest.mark.parametrize("text", ["512x768", " 512 × 768 ", "512X768", "512:768"])
def test_a_size_is_read_as_people_write_it(text: str) -> None:
    assert parse_size(text) == (512, 768)


@pytest.mark.parametrize("text", ["", "512", "x", "512x", "-8x8", "8x8x8", "999999x8", "٨x٨", "0x8", "8x0"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InferenceError) as refusal:
        parse_size(text)
    assert isinstance(refusal.value.failure, SizeUnreadable)


def test_a_size_that_is_not_possible_comes_with_the_nearest_that_is(catalog: Catalog, order: ImageRequest) -> None:
    with pytest.raises(InferenceError) as refusal:
        validate(replace(order, width=61, height=5_000), catalog["tiny"])
    assert isinstance(refusal.value.failure, SizeNotPossible)
    assert refusal.value.failure.suggestion == (64, 128)
