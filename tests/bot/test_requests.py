"""From options to an order: defaults come from the model, and whatever cannot be drawn is refused with a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.ordering import requests
from bot.ordering.access import Refused
from bot.ordering.flags import RANDOM, Options, merged
from bot.settings import ROOT
from bot.store import StoredPicture
from inference.catalog import Catalog
from inference.contract import MAX_SEED, ImageRequest, Variation
from inference.errors import (
    InferenceError,
    OutOfRange,
    PromptEmpty,
    PromptTooLong,
    SizeNotPossible,
    UnknownModel,
    WeightOutOfRange,
)
from inference.pictures.infotext import Infotext


def order(options: Options, catalog: Catalog) -> ImageRequest:
    """What is ordered where nobody has chosen anything."""
    entry = catalog.default if options.model is None else catalog[options.model]
    return requests.imagine(options, catalog, entry=entry, seed=7)


def test_the_models_own_values_fill_what_was_not_given(catalog: Catalog) -> None:
    request = order(Options(prompt="a red apple"), catalog)
    assert (request.model, request.seed, request.count) == ("quick", 7, 1)
    assert (request.steps, request.guidance, request.width, request.height) == (4, 8.0, 64, 64)


def test_what_was_given_wins(catalog: Catalog) -> None:
    options = Options(prompt="x", model="guided", seed=0, count=4, steps=2, guidance=1.5, aspect="96x32")
    request = order(options, catalog)
    assert (request.model, request.seed, request.count, request.steps) == ("guided", 0, 4, 2)
    assert (request.guidance, request.width, request.height) == (1.5, 96, 32)


@pytest.mark.parametrize("size", ["96x64", "96 X 64", " 96×64 ", "96*64"])
def test_a_size_is_read_however_people_write_it(catalog: Catalog, size: str) -> None:
    request = order(Options(prompt="x", aspect=size), catalog)
    assert (request.width, request.height) == (96, 64)


@pytest.mark.parametrize("ratio", ["2:1", "2：1", '"2:1"', "“2：1”", " 2 : 1 "])
def test_a_ratio_is_read_however_people_write_it(catalog: Catalog, ratio: str) -> None:
    request = order(merged(Options(prompt=f"a fox --ar {ratio}")), catalog)
    assert (request.width, request.height) == (88, 48)


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        ("--ar 2:1 --w 64", (64, 32)),
        ("--ar 1:2 --w 64", (64, 128)),
        ("--ar 2:3 --h 128", (88, 128)),  # the multiple of 8 next to 85⅓
        ("--ar 2:1 --w 64 --h 64", (64, 64)),
        ("--ar 96x64 --w 32", (32, 64)),
    ],
)
def test_of_a_shape_with_one_side_given_the_other_one_follows(
    catalog: Catalog, flags: str, size: tuple[int, int]
) -> None:
    request = order(merged(Options(prompt=f"a fox {flags}")), catalog)
    assert (request.width, request.height) == size


def test_a_side_that_would_follow_and_is_too_long_is_refused_as_it_was_asked_for(catalog: Catalog) -> None:
    with pytest.raises(InferenceError, match="64×192 is not possible"):
        order(Options(prompt="x", aspect="1:3", width=64), catalog)


def test_seed_minus_one_is_any_seed(catalog: Catalog) -> None:
    assert order(merged(Options(prompt="a fox --seed -1")), catalog).seed == 7


@pytest.mark.parametrize(
    ("options", "failure"),
    [
        (Options(prompt="  \n "), PromptEmpty),
        (Options(prompt="x" * 3000), PromptTooLong),
        (Options(prompt="x", model="nope"), UnknownModel),
        (Options(prompt="(x:11)"), WeightOutOfRange),
        (Options(prompt="(x:-1)"), WeightOutOfRange),
        (Options(prompt="x", negative="((((y:3):3):3)"), WeightOutOfRange),
        (Options(prompt="(" * 130 + "x" + ":0)" * 20 + ":999)" * 110), WeightOutOfRange),
        (Options(prompt="(:2)"), PromptEmpty),
        (Options(prompt="x", seed=MAX_SEED + 1), OutOfRange),
        (Options(prompt="x", seed=-2), OutOfRange),
        (Options(prompt="x", vary=1.5), OutOfRange),
        (Options(prompt="x", vary=0.5, vary_seed=MAX_SEED + 1), OutOfRange),
        (Options(prompt="x", count=0), OutOfRange),
        (Options(prompt="x", count=5), OutOfRange),
        (Options(prompt="x", steps=0), OutOfRange),
        (Options(prompt="x", guidance=float("nan")), OutOfRange),
        (Options(prompt="x", aspect="60x64"), SizeNotPossible),
        (Options(prompt="x", aspect="4096x4096"), SizeNotPossible),
        (Options(prompt="x", width=0), SizeNotPossible),
        (Options(prompt="x", aspect="2:1", height=0), SizeNotPossible),
    ],
)
def test_what_cannot_be_drawn_is_refused(catalog: Catalog, options: Options, failure: type[object]) -> None:
    with pytest.raises(InferenceError) as refusal:
        order(options, catalog)
    assert isinstance(refusal.value.failure, failure)
    assert str(refusal.value).endswith((".", "!"))


def test_backslashes_before_brackets_do_not_count(catalog: Catalog) -> None:
    assert order(Options(prompt=r"\(x\)" * 333), catalog).prompt == r"\(x\)" * 333
    with pytest.raises(InferenceError, match="has 1,002 characters"):
        order(Options(prompt=r"\(x\)" * 334), catalog)


@given(prompt=st.text(max_size=1200), size=st.none() | st.text(max_size=12), seed=st.none() | st.integers())
def test_any_input_gives_an_order_or_a_refusal(prompt: str, size: str | None, seed: int | None) -> None:
    from tests.bot.conftest import a_catalog

    try:
        request = order(Options(prompt=prompt, aspect=size, seed=seed), a_catalog())
    except (InferenceError, Refused):
        return
    assert request.prompt == " ".join(prompt.split())


def test_a_reroll_changes_the_seed_alone(catalog: Catalog) -> None:
    first = replace(order(Options(prompt="x", count=2), catalog), bucket=2, guided_bucket=2)
    assert requests.reroll(first, catalog, seed=8) == replace(first, seed=8, bucket=None, guided_bucket=None)


def drawn(*buckets: tuple[int, int]) -> list[StoredPicture]:
    return [
        StoredPicture(
            id=f"{index:036}", job_id="", index=index, seed=7, width=64, height=64, bucket=bucket,
            guided_bucket=guided_bucket, pixels_sha256="", bytes=1,
        )
        for index, (bucket, guided_bucket) in enumerate(buckets)
    ]  # fmt: skip


def test_the_same_seed_keeps_the_buckets_of_the_first_drawing(catalog: Catalog) -> None:
    first = order(Options(prompt="x", count=2), catalog)
    again = requests.same_seed(first, catalog, drawn=drawn((4, 2), (4, 2)))
    assert again == replace(first, bucket=4, guided_bucket=2)


@pytest.mark.parametrize(
    ("sizes", "asked"),
    [
        ([(1, 1), (1, 1)], (None, None)),
        ([(2, 1), (2, 1)], (2, None)),
        ([(2, 1), (2, 2)], (2, 2)),
        ([(2, 0), (2, 0)], (2, 0)),
        ([], (None, None)),
    ],
)
def test_buckets_that_were_halved_for_want_of_memory_are_left_to_be_so_again(
    catalog: Catalog, sizes: list[tuple[int, int]], asked: tuple[int | None, int | None]
) -> None:
    first = order(Options(prompt="x", count=2), catalog)
    again = requests.same_seed(first, catalog, drawn=drawn(*sizes))
    assert (again.bucket, again.guided_bucket) == asked


def test_one_picture_of_an_order_is_found_by_its_own_seed_even_past_the_largest(catalog: Catalog) -> None:
    several = replace(order(Options(prompt="x", seed=MAX_SEED, count=2), catalog), bucket=2, guided_bucket=0)
    assert requests.alone(several, 1) == order(Options(prompt="x", seed=0, count=1), catalog)


VARIED = Options(prompt="x", seed=7, vary=0.2, vary_seed=MAX_SEED, count=2)


def test_a_variation_is_ordered_by_its_strength_and_its_seed_if_that_is_given(catalog: Catalog) -> None:
    assert order(VARIED, catalog).variation == Variation(seed=MAX_SEED, strength=0.2)
    entry = catalog.default
    for options in (replace(VARIED, vary_seed=None), replace(VARIED, vary_seed=RANDOM)):
        request = requests.imagine(options, catalog, entry=entry, seed=1, variation_seed=5)
        assert (request.seed, request.variation) == (7, Variation(seed=5, strength=0.2))


@pytest.mark.parametrize("seed", [None, 5])
def test_a_variation_of_no_strength_is_none(catalog: Catalog, seed: int | None) -> None:
    assert order(Options(prompt="x", vary=0.0, vary_seed=seed), catalog).variation is None


@pytest.mark.parametrize("aspect", ["big", "", "9:9:9", "0:1", "3:0", "0x512", "99999:1:2"])
def test_an_aspect_that_is_neither_a_ratio_nor_a_size_is_refused_with_an_example_of_each(
    catalog: Catalog, aspect: str
) -> None:
    with pytest.raises(Refused, match=r"3:2, or 512x512"):
        order(Options(prompt="x", aspect=aspect), catalog)


def test_the_seed_of_a_variation_without_a_strength_is_refused(catalog: Catalog) -> None:
    with pytest.raises(Refused, match="needs a strength"):
        order(Options(prompt="x", vary_seed=5), catalog)


def test_a_reroll_of_a_variation_gives_others_of_the_same_picture(catalog: Catalog) -> None:
    first = order(VARIED, catalog)
    again = requests.reroll(first, catalog, seed=8)
    assert again == replace(first, variation=Variation(seed=8, strength=0.2))


def test_one_picture_of_a_variation_keeps_its_seed_and_its_own_variation_seed(catalog: Catalog) -> None:
    alone = requests.alone(order(VARIED, catalog), 1)
    assert (alone.count, alone.seed, alone.variation) == (1, 7, Variation(seed=0, strength=0.2))


def test_a_variation_is_kept_by_another_model_and_by_what_one_would_have_to_say(catalog: Catalog) -> None:
    first = order(VARIED, catalog)
    assert requests.other_model(first, catalog, entry=catalog["guided"]).variation == first.variation
    assert order(requests.options_of(first), catalog) == first


def test_another_model_keeps_prompt_seed_and_shape(catalog: Catalog) -> None:
    first = order(Options(prompt="x", aspect="96x48", seed=5, count=2), catalog)
    other = requests.other_model(first, catalog, entry=catalog["guided"])
    assert (other.prompt, other.seed, other.count, other.model) == ("x", 5, 2, "guided")
    assert (other.steps, other.guidance) == (4, 1.0)
    assert (other.width, other.height) == (88, 48)  # 2:1 at the area that the other family draws best


@given(
    negative=st.none() | st.just("blur"),
    seed=st.integers(0, MAX_SEED),
    steps=st.integers(1, 8),
    guidance=st.floats(3, 13),
    count=st.integers(1, 4),
)
def test_what_one_would_have_to_say_gives_the_same_order(
    negative: str | None, seed: int, steps: int, guidance: float, count: int
) -> None:
    from tests.bot.conftest import a_catalog

    said = Options(prompt="x", negative=negative, seed=seed, steps=steps, guidance=round(guidance, 2), count=count)
    first = order(said, a_catalog())
    assert order(requests.options_of(first), a_catalog()) == first


@pytest.mark.parametrize(
    ("ratio", "sides"), [("1:1", (512, 512)), ("3:2", (640, 448)), ("9:16", (384, 704)), ("100:1", (1024, 256))]
)
def test_a_shape_keeps_the_area_that_a_model_draws_best(ratio: str, sides: tuple[int, int]) -> None:
    entry = Catalog.load(ROOT / "models" / "models.toml")["dreamshaper-7"]
    assert requests.size(Options(prompt="x", aspect=ratio), entry) == sides


def test_a_side_alone_can_be_given(catalog: Catalog) -> None:
    assert requests.size(Options(prompt="x", width=96), catalog.default) == (96, 64)


def test_shapes_are_suggested_with_their_sizes(catalog: Catalog) -> None:
    found = requests.suggest_aspects("", catalog.default)
    assert found[0] == ("1:1 (64×64)", "1:1")
    assert len(found) == len(requests.RATIOS)
    assert requests.suggest_aspects("16", catalog.default) == [("16:9 (88×48)", "16:9")]


def test_a_recipe_of_another_program_keeps_what_can_be_followed(catalog: Catalog) -> None:
    foreign = Infotext(
        prompt="a fox", negative="blur", steps=25, guidance=7.0, seed=5, width=512, height=768, model="x"
    )
    options = requests.options_from(foreign, catalog)
    assert (options.prompt, options.negative, options.seed, options.aspect) == ("a fox", "blur", 5, "512:768")
    assert (options.model, options.steps, options.guidance) == (None, None, None)
    assert (order(options, catalog).width, order(options, catalog).height) == (56, 80)


@pytest.mark.parametrize(
    ("steps", "guidance", "kept"),
    [(30, 7.0, (None, None)), (6, 1.5, (6, 1.5)), (30, 1.5, (None, 1.5)), (None, None, (None, None))],
)
def test_numbers_of_another_program_that_a_model_does_not_take_are_left_to_the_model(
    catalog: Catalog, steps: int | None, guidance: float | None, kept: tuple[int | None, float | None]
) -> None:
    foreign = Infotext(prompt="x", steps=steps, guidance=guidance, width=96, height=64, model="guided")
    options = requests.options_from(foreign, catalog)
    assert (options.model, options.aspect) == ("guided", "96x64")
    assert (options.steps, options.guidance) == kept
    assert order(options, catalog).model == "guided"


@pytest.mark.parametrize(
    ("size", "aspect", "drawn"),
    [((96, 64), "96x64", (96, 64)), ((100, 50), "100:50", (88, 48)), ((512, 768), "512:768", (56, 80))],
)
def test_of_a_size_of_another_program_that_a_model_does_not_draw_the_shape_is_kept(
    catalog: Catalog, size: tuple[int, int], aspect: str, drawn: tuple[int, int]
) -> None:
    options = requests.options_from(Infotext(prompt="x", width=size[0], height=size[1], model="guided"), catalog)
    request = order(options, catalog)
    assert (options.aspect, (request.width, request.height)) == (aspect, drawn)


@pytest.mark.parametrize("written", ["guided", "Guided", "_Guided_", "guided!"])
def test_another_program_calls_a_model_by_its_file(catalog: Catalog, written: str) -> None:
    assert requests.options_from(Infotext(prompt="x", model=written), catalog).model == "guided"


@pytest.mark.parametrize("written", ["", "!", "guided-2", "国风guided"])
def test_another_files_name_is_no_model(catalog: Catalog, written: str) -> None:
    assert requests.options_from(Infotext(prompt="x", model=written), catalog).model is None


def test_an_old_order_for_a_model_that_is_gone_is_refused(catalog: Catalog) -> None:
    old = replace(order(Options(prompt="x"), catalog), model="gone")
    with pytest.raises(InferenceError, match="no model “gone”"):
        requests.reroll(old, catalog, seed=8)
