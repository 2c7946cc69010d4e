"""A work folder is one recipe's: what another made is neither skipped nor mixed in."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.__main__ import main
from training.work import Work


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
    assert "there already" in capsys.readouterr().out
