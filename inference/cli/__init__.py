"""What ``python -m inference`` does: draw, list, check, pull, draw again."""
