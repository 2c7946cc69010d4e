"""A work folder is one recipe's: what another made is neither skipped nor mixed in."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest

from training.__main__ import main
from training.work import Work, whole


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "work")


def made_something(work: Work) -> None:
    work.checkpoint("vae").parent.mkdir(parents=True)
    work.checkpoint("vae").touch()


def test_a_folder_goes_on_with_the_recipe_that_filled_it(work: Work) -> None:
    work.claim("gpu")
    made_something(work)
    work.claim("gpu")
    assert work.filled_by == "gpu"


def test_another_recipe_is_told_what_to_do(work: Work) -> None:
    work.claim("gpu")
    made_something(work)
    with pytest.raises(SystemExit, match=r"recipe “gpu” made.*--work, remove this one.*--recipe gpu"):
        work.claim("cpu")
    assert work.filled_by == "gpu"


def test_a_folder_that_does_not_say_was_filled_on_a_processor(work: Work) -> None:
    made_something(work)
    with pytest.raises(SystemExit, match="recipe “cpu” made"):
        work.claim("gpu")
    work.claim("cpu")
    assert work.filled_by == "cpu"


def test_pictures_are_the_same_for_every_recipe(work: Work) -> None:
    work.root.mkdir()
    work.pictures.touch()
    work.claim("cpu")
    work.claim("gpu")
    made_something(work)
    assert work.filled_by == "gpu"


def test_sheets_and_what_a_crash_left_of_the_pictures_are_no_recipes(work: Work) -> None:
    work.sheets.mkdir(parents=True)
    with contextlib.suppress(OSError), whole(work.pictures) as partial:
        partial.touch()
        raise OSError
    assert work.filled_by is None


MADE = ("vae", "latents", "tokenizer", "text", "base", "ways", "native", "lora", "style-flat", "style-ink")


@pytest.mark.parametrize(("stage", "left"), [("vae", 1), ("text", 4), ("base", 5), ("native", 10), ("style-flat", 10)])
def test_what_was_made_from_a_network_goes_when_that_changes(stage: str, left: int, work: Work) -> None:
    paths = {name: [work.root / name / "weights", work.checkpoint(name)] for name in MADE}
    paths |= {"latents": [work.latents], "tokenizer": [work.tokenizer / "merges.txt"], "ways": [work.ways]}
    for path in (work.pictures, *itertools.chain(*paths.values())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    work.outdate(stage)
    for name in MADE:
        assert {path.exists() for path in paths[name]} == {name in MADE[:left]}
    assert work.pictures.exists()


@pytest.mark.parametrize("stage", [["vae"], ["style"], ["distil", "native"], ["all"]])
def test_no_stage_begins_in_another_recipes_folder(stage: list[str], work: Work) -> None:
    made_something(work)
    before = sorted(work.root.rglob("*"))
    with pytest.raises(SystemExit, match="--work"):
        main([*stage, "--recipe", "gpu", "--work", str(work.root)])
    assert sorted(work.root.rglob("*")) == before


def test_pictures_are_fetched_whosever_the_folder_is(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    made_something(work)
    work.pictures.touch()
    assert main(["data", "--recipe", "gpu", "--work", str(work.root)]) == 0
    said = capsys.readouterr().out
    assert "there already" in said
    assert "data took 0:00:00." in said


def test_an_evaluation_fetches_the_pictures_that_it_needs(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="downloaded with npm"):
        main(["evaluate", "--work", str(work.root)])
