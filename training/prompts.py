"""What is always drawn the same way: the prompts of sample sheets, and the evaluation's seeds."""

from __future__ import annotations

SHEET = (
    "a red apple", "owl", "a fox", "pizza", "a rocket", "elephant", "a blue apple", "a pink owl",
    "a cat face on a blue background", "penguin", "green salad", "ghost", "a purple octopus", "red heart",
    "a house on a yellow background", "robot", "sunflower", "a bicycle", "hamburger", "a green dragon",
    "strawberry", "panda", "snowman", "crown",
)  # fmt: skip
"""Drawn at intervals during training."""

SEED = 20_231
"""Picture i of an evaluation is drawn from seed SEED + i."""
