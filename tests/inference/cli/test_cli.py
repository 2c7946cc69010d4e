"""The command line, as a person uses it: its own process, its words, its exit status."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from inference.__main__ import main
from inference.contract import Variation
from inference.pictures.recipe import Recipe, read_pixels, read_recipe
from inference.pictures.saving import encode_png
from inference.whole_files import replace_file
from tests.checkers import save_classifier
from tests.checkpoints import TinyModels

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class CommandLine:
    """Runs commands in this process, on the tiny models."""

    models: TinyModels
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Said:
        try:
            status = main(["--catalog", str(self.models.catalog), *arguments])
        except SystemExit as leave:
            status = int(leave.code or 0)
        said = self.capture.readouterr()
        return Said(status, said.out, said.err)


@pytest.fixture
def run(tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tiny_models, capsys)


@pytest.fixture
def picture(run: CommandLine, tmp_path: Path) -> Path:
    """A picture drawn as one of three."""
    drawn = run("draw", "a red apple", "--seed", "7", "--count", "3", "--device", "cpu", "-o", str(tmp_path))
    assert drawn.status == 0, drawn.err
    return next(path for path in tmp_path.glob("*.png") if recipe_of(path).seed == 8)


def recipe_of(path: Path) -> Recipe:
    recipe = read_recipe(path)
    assert isinstance(recipe, Recipe)
    return recipe


def resave(path: Path, recipe: Recipe, flip: bool = False) -> None:
    """The same pixels (or upside down) with another recipe."""
    import numpy as np

    pixels = np.frombuffer(read_pixels(path), np.uint8).reshape(recipe.height, recipe.width, 3)
    replace_file(path, encode_png(np.ascontiguousarray(pixels[::-1] if flip else pixels), recipe))


def test_drawing_saves_pictures_under_uuids_and_tells_everything_about_them(run: CommandLine, tmp_path: Path) -> None:
    said = run(
        *["draw", "a red apple", "--seed", "4294967295", "--count", "2", "--steps", "3", "--guidance", "9.5"],
        *["--size", "72x64", "--lora", "flat:0.5", "--lora", "noto", "--precision", "fp32", "-o", str(tmp_path)],
    )
    assert said.status == 0
    for word in ("Tiny (tiny)", "3 steps", "guidance 9.5", "72×64", "flat at 0.5", "noto at 1", "seed 4294967295"):
        assert word in said.out
    assert re.search(r"seed 0 .*\n2 pictures in \d+\.\d\d s, after \d+\.\d\d s of loading", said.out)
    paths = sorted(tmp_path.iterdir())
    assert all(uuid.UUID(path.stem) and path.suffix == ".png" and str(path) in said.out for path in paths)
    assert {recipe_of(path).seed for path in paths} == {4_294_967_295, 0}


def test_a_terminal_that_lacks_characters_is_told_with_others(tiny_models: TinyModels) -> None:
    command = [sys.executable, "-m", "inference", "--catalog", str(tiny_models.catalog)]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    listed = subprocess.run([*command, "models"], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert b"? tiny  (Tiny; emoji, native, default)" in listed.stdout
    refused = subprocess.run([*command, "pull", "x"], cwd=ROOT, env=environment, capture_output=True)
    assert b"There is no model ?x?." in refused.stderr


def test_drawing_takes_from_the_model_what_is_not_said(run: CommandLine, tmp_path: Path) -> None:
    assert run("draw", "an owl", "--model", "tiny-lora", "-o", str(tmp_path)).status == 0
    (path,) = tmp_path.iterdir()
    recipe = recipe_of(path)
    assert (recipe.steps, recipe.guidance, recipe.width, recipe.height, recipe.bucket) == (4, 1.0, 64, 64, 1)


def test_the_sizes_of_both_passes_can_be_asked_for_and_are_kept_in_a_redraw(run: CommandLine, tmp_path: Path) -> None:
    order = ("draw", "an owl", "--model", "tiny-lora", "--guidance", "1.5", "--bucket", "8", "--guided-bucket", "4")
    assert run(*order, "-o", str(tmp_path)).status == 0
    (path,) = tmp_path.iterdir()
    assert (recipe_of(path).bucket, recipe_of(path).guided_bucket) == (8, 4)
    assert run("redraw", str(path)).status == 0


@pytest.mark.parametrize(
    ("model", "guidance", "words"),
    [("tiny", "8", "native LCM"), ("tiny-lora", "1", "above 1"), ("tiny-lora", "2", None)],
)
def test_a_negative_prompt_without_effect_is_mentioned(
    run: CommandLine, tmp_path: Path, model: str, guidance: str, words: str | None
) -> None:
    said = run("draw", "a", "--negative", "b", "--model", model, "--guidance", guidance, "-o", str(tmp_path))
    assert said.status == 0
    assert (words or "") in said.out
    assert ("no effect" in said.out) is (words is not None)


@pytest.mark.parametrize("bias", [20.0, -20.0])
def test_explicit_pictures_are_saved_and_named_so(tmp_path: Path, run: CommandLine, bias: float) -> None:
    models = checked(run.models, tmp_path)
    save_classifier(models.folder / "classifier", bias=bias)
    said = replace(run, models=models)("draw", "a", "--count", "2", "-o", str(tmp_path / "out"))
    assert said.status == 0
    assert said.out.count("counts as explicit") == (2 if bias > 0 else 0)
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_without_a_checker_one_is_told_how_to_get_or_waive_it(tmp_path: Path, run: CommandLine) -> None:
    run = replace(run, models=checked(run.models, tmp_path))
    refused = run("draw", "a", "-o", str(tmp_path / "out"))
    assert refused.status == 2
    assert str(tmp_path / "models" / "classifier") in refused.err
    assert "--no-safety-check" in refused.err
    assert "classifier" in run("models").out
    assert run("draw", "a", "--no-safety-check", "-o", str(tmp_path / "out")).status == 0


def checked(models: TinyModels, folder: Path) -> TinyModels:
    """A copy of the native model alone, whose pictures are to be checked by a classifier that is yet to come."""
    copy = TinyModels(folder / "models")
    shutil.copytree(models.native, copy.native)
    entry = models.catalog.read_text(encoding="utf-8").partition("[models.tiny-lora]")[0].replace("harmless = true", "")
    copy.catalog.write_text(entry + '[safety]\nweights = { path = "classifier" }\n', encoding="utf-8")
    return copy


def test_the_catalogue_tells_what_is_here_and_how_to_get_the_rest(run: CommandLine) -> None:
    said = run("models")
    assert said.status == 0
    assert re.search(r"✓ tiny +\(Tiny; emoji, native, default\)", said.out)
    assert re.search(r"✗ absent\b", said.out)
    assert "nowhere" in said.out


def test_a_picture_drawn_again_has_identical_pixels(run: CommandLine, picture: Path) -> None:
    said = run("redraw", str(picture))
    assert (said.status, said.out.splitlines()[-1]) == (0, "The pixels are identical.")


def test_variations_are_drawn_and_drawn_again_to_the_pixel(run: CommandLine, tmp_path: Path) -> None:
    order = ("draw", "an owl", "--seed", "7", "--count", "2", "-o", str(tmp_path))
    said = run(*order, "--variation-seed", "77", "--variation-strength", "0.5")
    assert re.search(r"seed 7 +variation 77 .*\n +seed 7 +variation 78 ", said.out)
    paths = sorted(tmp_path.iterdir(), key=lambda path: str(recipe_of(path).variation))
    assert [recipe_of(path).seed for path in paths] == [7, 7]
    assert [recipe_of(path).variation for path in paths] == [Variation(seed=s, strength=0.5) for s in (77, 78)]
    assert read_pixels(paths[0]) != read_pixels(paths[1])
    assert [run("redraw", str(path)).status for path in paths] == [0, 0]


def test_a_variation_of_no_strength_is_the_picture_itself(run: CommandLine, tmp_path: Path) -> None:
    assert run("draw", "an owl", "--variation-seed", "77", "-o", str(tmp_path)).status == 0
    (path,) = tmp_path.iterdir()
    assert recipe_of(path).variation is None


def test_a_picture_that_was_altered_is_told_from_its_redrawing(run: CommandLine, picture: Path) -> None:
    resave(picture, recipe_of(picture), flip=True)
    said = run("redraw", str(picture))
    assert said.status == 1
    assert "The pixels differ" in said.out


def test_redrawing_says_what_has_changed_since(run: CommandLine, picture: Path) -> None:
    then = recipe_of(picture)
    resave(picture, replace(then, weights="0" * 64, versions=(("torch", "1.0"),), precision="float32"))
    said = run("redraw", str(picture), "--precision", "bf16")
    for words in ("The weights of “tiny” have changed", "float32 on cpu; this is bfloat16", "drawn with torch 1.0"):
        assert words in said.out


def test_redrawing_a_picture_of_another_program_is_refused(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "other.png").write_bytes(b"nothing")
    said = run("redraw", str(tmp_path / "other.png"))
    assert said.status == 2
    assert "other.png carries no recipe" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["draw", " "], "prompt is empty"),
        (["draw", "x" * 3_000], "3,000 characters"),
        (["draw", "a", "--seed", "x"], "seed must be a number"),
        (["draw", "a", "--seed", "-1"], "seed must be between"),
        (["draw", "a", "--variation-strength", "2"], "variation strength must be between 0 and 1"),
        (["draw", "a", "--variation-strength", "1", "--variation-seed", "-1"], "variation seed must be between"),
        (["draw", "a", "--count", "0"], "count must be between 1 and 4"),
        (["draw", "a", "--model", "nope"], "no model “nope”"),
        (["draw", "a", "--model", "absent"], "not on this machine"),
        (["draw", "a", "--size", "65x64"], "Try 64×64"),
        (["draw", "a", "--size", "big"], "512x512"),
        (["draw", "a", "--guidance", "nan"], "guidance must be a number"),
        (["draw", "a", "--guidance", "99"], "guidance must be between"),
        (["draw", "a", "--guidance", "x"], "guidance must be a number"),
        (["draw", "a", "--lora", "nope"], "no LoRA “nope”"),
        (["draw", "a", "--lora", "flat:much"], "LoRA strength must be a number; “much” is not one"),
        (["draw", "a", "--device", "tpu"], "no device “tpu”"),
        (["draw", "a", "--precision", "int4"], "no precision “int4”"),
        (["draw", "a", "-o", "/proc/nowhere"], "could not be saved"),
        (["draw"], "prompt"),
        (["paint"], "invalid choice"),
        ([], "COMMAND"),
    ],
)
def test_a_mistake_gets_one_sentence_and_status_2(run: CommandLine, arguments: list[str], words: str) -> None:
    said = run(*arguments)
    assert said.status == 2
    assert words in said.err
    assert "Traceback" not in said.err
    assert len([line for line in said.err.splitlines() if line.strip() and "/4" not in line]) <= 1


def test_a_catalogue_that_cannot_be_read_gets_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models.toml").write_text("default = 1")
    assert main(["--catalog", str(tmp_path / "models.toml"), "models"]) == 2
    assert "default: must be text" in capsys.readouterr().err


def test_help_explains_itself_without_loading_torch() -> None:
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    command = [sys.executable, "-m", "inference", "--help"]
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert all(word in said.stdout for word in ("draw", "redraw", "models"))
    assert not re.search(r"\|\s+torch$", said.stderr, re.MULTILINE)


def test_check_ends_by_whether_all_of_it_can_be_used(run: CommandLine, tiny_models: TinyModels, tmp_path: Path) -> None:
    assert run("check").status == 0
    copy = replace(run, models=TinyModels(Path(shutil.copytree(tiny_models.folder, tmp_path / "models"))))
    with (copy.models.native / "unet" / "diffusion_pytorch_model.safetensors").open("r+b") as weights:
        weights.truncate(1000)
    said = copy("check")
    assert said.status == 1
    assert "✗ tiny: " in said.out


def own_process(*arguments: str, folder: Path = ROOT, **environment: str) -> Said:
    """The command as a shell runs it in ``folder``."""
    command = [sys.executable, "-m", "inference", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


def test_a_process_with_another_number_of_threads_redraws_the_same_pixels(
    tiny_models: TinyModels, picture: Path
) -> None:
    threads = "2" if recipe_of(picture).threads == 1 else "1"
    said = own_process("--catalog", str(tiny_models.catalog), "redraw", str(picture), OMP_NUM_THREADS=threads)
    assert said.status == 0, said.err
    assert "The pixels are identical." in said.out


def test_the_bots_settings_of_what_models_there_are_hold_for_commands_too(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"CATALOG='{tiny_models.catalog}'\nHF_TOKEN=\n")
    assert "tiny-lora" in own_process("models", folder=tmp_path).out
    said = own_process("models", folder=tmp_path, CATALOG=str(tmp_path / "none.toml"))
    assert (said.status, "none.toml" in said.err) == (2, True)


def test_the_settings_beside_the_program_hold_where_the_current_folder_has_none(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / ".env").write_text(f"CATALOG='{tiny_models.catalog}'\n", encoding="utf-8-sig")
    program = (
        "import pathlib, sys, inference.__main__ as it;"
        f"it.ROOT = pathlib.Path({str(tmp_path / 'program')!r}); sys.exit(it.main(['models']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    listed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "tiny-lora" in listed.stdout


def test_a_model_in_the_hubs_cache_is_drawn_with_and_an_absent_one_is_not_fetched(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(tiny_models.native, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    catalog = tmp_path / "models.toml"
    catalog.write_text(tiny_models.catalog.read_text().replace('{ path = "tiny-lcm" }', '{ hub = "someone/tiny" }', 1))
    drawing = ["--catalog", str(catalog), "draw", "a red apple", "-o", str(tmp_path / "out")]
    assert own_process(*drawing, HF_HOME=str(tmp_path)).status == 0
    assert len(list((tmp_path / "out").iterdir())) == 1
    said = own_process(*drawing, HF_HOME=str(tmp_path / "empty"))
    assert (said.status, "python -m inference pull tiny" in said.err) == (2, True)
