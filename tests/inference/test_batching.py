"""From orders to batches: every picture a row, and the sizes that both passes are padded to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.batching import BatchKey, batch_of, halves
from inference.contract import ImageRequest, Variation, picture_id
from tests.inference.batches import batch, row

IDS = ["00000000-0000-4000-8000-000000000000", "00000000-0000-4000-8000-000000000001"]


def order(*, count: int = 1, guidance: float = 1.0, seed: int = 7) -> ImageRequest:
    return ImageRequest(
        prompt="an owl", model="m", seed=seed, count=count, steps=4, guidance=guidance, width=64, height=64
    )


def test_every_picture_is_a_row_with_its_own_seed_and_lasting_id() -> None:
    made = batch_of({IDS[0]: order(count=2), IDS[1]: order(guidance=1.5, seed=2**32 - 1)})
    assert [(row.job_id, row.index, row.seed, row.guidance) for row in made.rows] == [
        (IDS[0], 0, 7, 1.0),
        (IDS[0], 1, 8, 1.0),
        (IDS[1], 0, 2**32 - 1, 1.5),
    ]
    assert [row.picture_id for row in made.rows] == [
        picture_id(IDS[0], 0),
        picture_id(IDS[0], 1),
        picture_id(IDS[1], 0),
    ]


def test_the_pictures_of_a_variation_keep_their_seed_and_its_own_counts_on() -> None:
    variation = Variation(seed=2**32 - 1, strength=0.2)
    made = batch_of({IDS[0]: replace(order(count=2), variation=variation), IDS[1]: order()})
    assert [row.seed for row in made.rows] == [7, 7, 7]
    assert [row.variation for row in made.rows] == [variation, Variation(seed=0, strength=0.2), None]


def test_each_pass_is_padded_to_the_next_power_of_two_of_its_rows() -> None:
    made = batch_of({IDS[0]: order(count=2), IDS[1]: order(count=3, guidance=1.5)})
    assert (made.bucket, made.guided_bucket) == (8, 4)
    assert batch_of({IDS[0]: order(count=3)}).guided_bucket == 0


def test_the_sizes_of_an_earlier_drawing_are_kept_where_they_are_asked_for() -> None:
    asked = replace(order(guidance=1.5), bucket=8, guided_bucket=4)
    made = batch_of({IDS[0]: asked})
    assert (made.bucket, made.guided_bucket) == (8, 4)
    assert batch_of({IDS[0]: replace(asked, guidance=1.0)}).guided_bucket == 0
    assert batch_of({IDS[0]: replace(asked, guided_bucket=0)}).guided_bucket == 1


@given(st.lists(st.sampled_from([1.0, 1.5]), min_size=1, max_size=8), st.integers(8, 16))
def test_halves_hold_every_row_once_and_pad_the_second_pass_to_their_own(guidances: list[float], bucket: int) -> None:
    whole = batch(*(row(index, guidance=guidance) for index, guidance in enumerate(guidances)), bucket=bucket)
    parts = halves(whole)
    assert tuple(row for part in parts for row in part.rows) == whole.rows
    for part in parts:
        guided = sum(row.guided for row in part.rows)
        assert part.bucket == (bucket + 1) // 2 >= len(part.rows)
        assert guided <= part.guided_bucket < max(1, 2 * guided)


LONG = "an owl, " * 40


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ({"prompt": "an owl"}, {"prompt": "a fox"}, True),
        ({"prompt": "an owl " * 30}, {"prompt": "a fox"}, True),
        ({"prompt": LONG}, {"prompt": "a fox"}, False),
        ({"prompt": LONG}, {"prompt": LONG + "!"}, False),
        ({"prompt": LONG}, {"prompt": LONG}, True),
        ({"prompt": "猫" * 80}, {"prompt": "a fox"}, False),
        ({"prompt": "an owl", "negative": LONG}, {"prompt": "a fox"}, True),  # which does not act
        ({"prompt": "an owl", "negative": LONG, "guidance": 1.5}, {"prompt": "a fox", "guidance": 1.5}, False),
        ({"prompt": "an owl", "bucket": 4}, {"prompt": "a fox", "bucket": 4}, False),
        ({"prompt": "an owl", "bucket": 4}, {"prompt": "an owl", "bucket": 4}, True),
    ],
)
def test_what_would_part_a_batch_is_not_in_it(one: dict[str, Any], other: dict[str, Any], together: bool) -> None:
    assert (BatchKey.of(replace(order(), **one)) == BatchKey.of(replace(order(), **other))) is together
