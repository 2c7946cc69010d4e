"""The safety check: the libraries' own verdicts, on the device; damaged, pickled, missing ones refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, pipeline

from inference.catalog import Catalog
from inference.catalog.entries import ModelEntry
from inference.contract import Phase, Progress
from inference.drawing.engine import Engine
from inference.drawing.safety import Safety
from inference.errors import CheckerMissing, CheckerUnusable, Failure, InferenceError, describe
from inference.loading.checker import Verdict
from inference.loading.preprocessing import Preprocessing
from tests.checkers import CLIP, VIT, save_classifier, save_own_checker
from tests.checkpoints import TinyModels
from tests.inference.batches import batch, row, silent
from tests.inference.gpu import needs_gpu

MODEL = 'family = "emoji"\nkind = "native"\nweights = { path = "tiny-lcm" }\nsize = [64, 64]\nsides = [32, 128]\n'
CATALOG = f"""
default = "tiny"
[safety]
weights = {{ path = "classifier" }}
[models.tiny]
{MODEL}
[models.harmless]
{MODEL}harmless = true
[models.own]
{MODEL}safety = "own"
"""
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def models(tiny_models: TinyModels, tmp_path: Path) -> Path:
    """A native LCM with a checker of its own, a classifier, and a catalogue with a model for each."""
    shutil.copytree(tiny_models.native, tmp_path / "tiny-lcm")
    save_own_checker(tmp_path / "tiny-lcm")
    save_classifier(tmp_path / "classifier")
    (tmp_path / "models.toml").write_text(CATALOG, encoding="utf-8")
    return tmp_path


def catalog_in(models: Path) -> Catalog:
    return Catalog.load(models / "models.toml")


def engine_of(models: Path, *, safety_check: bool = True) -> Engine:
    return Engine(catalog=catalog_in(models), device="cpu", precision="fp32", safety_check=safety_check)


def safety_of(models: Path) -> Safety:
    return Safety(catalog=catalog_in(models), device=CPU, precision=torch.float32)


def entry(models: Path, name: str) -> ModelEntry:
    return catalog_in(models)[name]


def verdicts(models: Path, name: str, pictures: torch.Tensor) -> tuple[Verdict, ...]:
    with safety_of(models).checker(entry(models, name), on_part=lambda: None) as checker:
        assert checker is not None
        return checker.judge(pictures)


def noise(count: int, height: int, width: int) -> torch.Tensor:
    """Pictures as uint8, from dark to bright."""
    generator = torch.Generator().manual_seed(1)
    brightness = torch.linspace(0, 127, count).reshape(-1, 1, 1, 1)
    return (torch.rand(count, height, width, 3, generator=generator) * 128 + brightness).to(torch.uint8)


# -- the same as the libraries say -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        VIT,
        CLIP,
        {**VIT, "size": {"height": 48, "width": 24}, "resample": 3},
        {**CLIP, "size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
        {**VIT, "do_resize": False, "do_normalize": False},
        {**VIT, "do_rescale": False},
    ],
)
@pytest.mark.parametrize("size", [(64, 64), (72, 96), (120, 88), (24, 24)])
def test_pictures_are_prepared_as_transformers_prepares_them(
    tmp_path: Path, config: dict[str, object], size: tuple[int, int]
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    pictures = noise(3, *size)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    wanted = processor([Image.fromarray(picture.numpy()) for picture in pictures], return_tensors="pt")["pixel_values"]
    prepared = Preprocessing.open(tmp_path)(pictures)
    scale = processor.rescale_factor if processor.do_rescale else 1.0
    one_level = scale / (min(processor.image_std) if processor.do_normalize else 1.0)
    assert prepared.shape == wanted.shape
    assert float((prepared - wanted).abs().max()) <= 2.01 * one_level
    assert float((prepared - wanted).abs().mean()) <= 0.05 * one_level


def test_the_classifier_says_what_transformers_pipeline_says(models: Path) -> None:
    pictures = noise(8, 64, 72)
    ours = verdicts(models, "tiny", pictures)
    theirs = pipeline("image-classification", model=str(models / "classifier"), device="cpu")(
        [Image.fromarray(picture.numpy()) for picture in pictures]
    )
    scores = [next(guess["score"] for guess in guesses if guess["label"] == "nsfw") for guesses in theirs]
    assert [verdict.score for verdict in ours] == pytest.approx(scores, abs=1e-3)
    assert [verdict.explicit for verdict in ours] == [score >= 0.5 for score in scores]
    assert {verdict.explicit for verdict in ours} == {True, False}


@pytest.mark.parametrize("seed", range(4))
def test_a_checkpoints_own_checker_says_what_diffusers_says(models: Path, seed: int) -> None:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    folder = save_own_checker(models / "tiny-lcm", strict=0.08, seed=seed)
    pictures = noise(8, 64, 72)
    processor = AutoImageProcessor.from_pretrained(models / "tiny-lcm" / "feature_extractor")
    prepared = processor([Image.fromarray(picture.numpy()) for picture in pictures], return_tensors="pt")[
        "pixel_values"
    ]
    checker = StableDiffusionSafetyChecker.from_pretrained(folder)
    _, explicit = checker(clip_input=prepared, images=np.zeros((8, 1)))
    assert [verdict.explicit for verdict in verdicts(models, "own", pictures)] == explicit


@pytest.mark.parametrize(("strict", "explicit"), [(2.0, True), (-2.0, False)])
def test_an_own_checkers_thresholds_decide(models: Path, strict: float, explicit: bool) -> None:
    save_own_checker(models / "tiny-lcm", strict=strict)
    assert {verdict.explicit for verdict in verdicts(models, "own", noise(4, 64, 64))} == {explicit}


def test_an_own_checker_by_its_published_names_is_the_same(models: Path) -> None:
    """Checkpoints were published when the vision tower had one more level, and kept its positions among the weights."""
    before = verdicts(models, "own", noise(4, 64, 64))
    path = models / "tiny-lcm" / "safety_checker" / "model.safetensors"
    weights = load_file(path)
    published = {
        f"vision_model.{name}" if name.startswith("vision_model.") else name: weights[name] for name in weights
    }
    published["vision_model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(published, path, metadata={"format": "pt"})
    assert verdicts(models, "own", noise(4, 64, 64)) == before


def test_labels_that_stand_for_themselves_are_not_shares_of_one(models: Path) -> None:
    labels = ("calm", "nsfw", "gore")
    save_classifier(models / "classifier", labels=labels, problem_type="multi_label_classification")
    (dark, bright) = verdicts(
        models, "tiny", torch.stack([torch.zeros(64, 64, 3), torch.full((64, 64, 3), 255)]).byte()
    )
    assert dark.score == pytest.approx(0.0180, abs=1e-3)
    assert bright.score == pytest.approx(0.9820, abs=1e-3)


def test_threshold_and_labels_are_the_catalogues(models: Path) -> None:
    bright = torch.full((1, 64, 64, 3), 255, dtype=torch.uint8)
    catalog = models / "models.toml"
    catalog.write_text(CATALOG.replace("[models.tiny]", "threshold = 0.99\n[models.tiny]"), encoding="utf-8")
    assert [verdict.explicit for verdict in verdicts(models, "tiny", bright)] == [False]
    catalog.write_text(CATALOG.replace("[models.tiny]", 'labels = ["Normal"]\n[models.tiny]'), encoding="utf-8")
    assert verdicts(models, "tiny", bright)[0].score == pytest.approx(0.0180, abs=1e-3)


# -- in the engine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bias", "explicit"), [(20.0, True), (-20.0, False)])
def test_every_picture_of_a_batch_is_judged_and_padding_is_not(models: Path, bias: float, explicit: bool) -> None:
    save_classifier(models / "classifier", bias=bias)
    drawn = engine_of(models).draw(batch(row(0), row(1, seed=8), row(2, seed=9), bucket=4), silent)
    assert [verdict and verdict.explicit for verdict in drawn.verdicts] == [explicit] * 3


def test_the_verdict_is_on_the_picture_that_is_saved(models: Path) -> None:
    drawn = engine_of(models).draw(batch(row(0), row(1, seed=8)), silent)
    assert drawn.verdicts == verdicts(models, "tiny", torch.from_numpy(drawn.pixels))


def test_checking_changes_no_pixel(models: Path) -> None:
    checked = engine_of(models).draw(batch(), silent)
    assert np.array_equal(checked.pixels, engine_of(models, safety_check=False).draw(batch(), silent).pixels)


def test_a_harmless_model_is_not_checked_and_needs_no_checker(models: Path) -> None:
    shutil.rmtree(models / "classifier")
    engine = engine_of(models)
    assert engine.draw(batch(model="harmless"), silent).verdicts == (None,)


def test_a_waived_check_needs_no_checker(models: Path) -> None:
    shutil.rmtree(models / "classifier")
    engine = engine_of(models, safety_check=False)
    assert engine.draw(batch(), silent).verdicts == (None,)
    assert engine.safety_faults() == ()


def test_a_checker_is_loaded_with_the_first_picture_that_needs_it_and_kept(models: Path) -> None:
    engine = engine_of(models)
    engine.draw(batch(model="harmless"), silent)
    assert engine._safety is not None
    assert engine._safety._checkers.keys == ()
    engine.draw(batch(), silent)
    (models / "classifier" / "model.safetensors").unlink()
    heard: list[Progress] = []
    assert engine.draw(batch(), heard.append).verdicts != (None,)
    assert Phase.LOADING not in {progress.phase for progress in heard}


def test_checkers_give_way_where_memory_is_short(models: Path) -> None:
    engine = engine_of(models)
    engine.draw(batch(), silent)
    assert engine._safety is not None
    checkers = engine._safety._checkers
    before = {key: checkers.peek(key) for key in checkers.keys}
    assert before
    with pytest.raises(InferenceError):
        engine.draw(batch(width=2**25, height=2**25), silent)
    assert all(checkers.peek(key) is not checker for key, checker in before.items()), "they were loaded again"
    assert engine.draw(batch(), silent).verdicts != (None,)


@needs_gpu
@pytest.mark.parametrize("name", ["tiny", "own"])
def test_a_checker_in_use_waits_beside_a_gpu_that_is_short_of_memory_and_comes_back_to_judge(
    models: Path, name: str
) -> None:
    safety = Safety(catalog=catalog_in(models), device=GPU, precision=torch.float32)
    pictures = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8).to(GPU)
    with safety.checker(entry(models, name), on_part=lambda: None) as checker:
        assert checker is not None
        before = checker.judge(pictures)
        safety.put_away()
        assert {tensor.device.type for tensor in checker.network.state_dict().values()} == {"cpu"}
        assert checker.judge(pictures) == before
        assert {tensor.device for tensor in checker.network.state_dict().values()} == {GPU}


# -- what is wrong with a checker --------------------------------------------------------------------------------------


def only_pickles(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[max(weights)][:] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def incomplete(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[max(weights)]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def config_damaged(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")


def brings_a_program(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "mine", "auto_map": {"AutoModelForImageClassification": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "mine.py").write_text("raise SystemExit('it ran')", encoding="utf-8")


def other_labels(folder: Path) -> None:
    save_classifier(folder, labels=("cat", "dog"))


def unprepared(folder: Path) -> None:
    for path in (folder, folder.parent / "feature_extractor"):
        (path / "preprocessor_config.json").unlink(missing_ok=True)


def strangely_prepared(folder: Path) -> None:
    config = {**VIT, "image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")


def cropped_beyond_its_edge(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({**CLIP, "crop_size": 64}), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (only_pickles, "the only kind read here; it has: pytorch_model.bin"),
        (cut_off, "the file is cut off"),
        (not_finite, "not finite"),
        (incomplete, "missing keys"),
        (config_damaged, "config"),
        (brings_a_program, "model type `mine`"),
        (other_labels, "its labels are cat, dog; “nsfw” is not one of them"),
        (unprepared, "no preprocessor_config.json"),
        (strangely_prepared, "ConvNextImageProcessor are not supported"),
        (cropped_beyond_its_edge, "too small for a crop"),
    ],
)
def test_a_classifier_that_cannot_be_used_is_refused_with_the_reason(
    models: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(models / "classifier")
    assert words in unusable(models, "tiny", models / "classifier")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (only_pickles, "the only kind read here; it has: pytorch_model.bin"),
        (cut_off, "the file is cut off"),
        (not_finite, "not finite"),
        (incomplete, "missing keys"),
        (unprepared, "no preprocessor_config.json"),
    ],
)
def test_an_own_checker_that_cannot_be_used_is_refused_with_the_reason(
    models: Path, damage: Callable[[Path], None], words: str
) -> None:
    folder = models / "tiny-lcm" / "safety_checker"
    damage(folder)
    assert words in unusable(models, "own", folder)


def unusable(models: Path, name: str, folder: Path) -> str:
    """Why ``name`` cannot be drawn with; the others can."""
    engine = engine_of(models)
    failure = refusal(engine, name)
    assert isinstance(failure, CheckerUnusable)
    assert failure.path == str(folder)
    assert engine.safety_faults() == (failure,)
    assert engine.draw(batch(model="harmless"), silent).pixels.std() > 0
    return failure.reason


def refusal(engine: Engine, name: str) -> Failure:
    with pytest.raises(InferenceError) as refused:
        engine.draw(batch(model=name), silent)
    return refused.value.failure


def test_a_missing_checker_is_named_with_where_it_belongs(models: Path) -> None:
    shutil.rmtree(models / "classifier")
    engine = engine_of(models)
    failure = refusal(engine, "tiny")
    assert failure == CheckerMissing(model="tiny", where=str(models / "classifier"))
    assert engine.safety_faults() == (failure,)
    assert "SAFETY_CHECK=off" in describe(failure)
    assert engine.draw(batch(model="own"), silent).verdicts != (None,)


def test_a_missing_checker_of_the_hub_is_named_with_what_fetches_it(models: Path) -> None:
    elsewhere = CATALOG.replace('path = "classifier"', 'hub = "nobody/no-such-classifier"')
    (models / "models.toml").write_text(elsewhere, encoding="utf-8")
    sentence = describe(refusal(engine_of(models), "tiny"))
    assert "nobody/no-such-classifier" in sentence
    assert "python -m inference pull safety" in sentence


def test_a_catalogue_without_a_checker_draws_only_what_needs_none(models: Path) -> None:
    (models / "models.toml").write_text(CATALOG.replace('[safety]\nweights = { path = "classifier" }\n', ""))
    engine = engine_of(models)
    assert "[safety]" in describe(refusal(engine, "tiny"))
    assert engine.draw(batch(model="harmless"), silent).verdicts == (None,)


def test_only_models_that_are_here_need_their_checkers(models: Path) -> None:
    shutil.rmtree(models / "classifier")
    shutil.rmtree(models / "tiny-lcm")
    assert engine_of(models).safety_faults() == ()


# -- what the catalogue says of it -------------------------------------------------------------------------------------


def test_a_checker_is_missing_only_where_pictures_are_checked(models: Path) -> None:
    catalog = catalog_in(models)
    shutil.rmtree(models / "classifier")
    shutil.rmtree(models / "tiny-lcm" / "safety_checker")
    missing = {name: [source.path for source in catalog.missing(name)] for name in ("tiny", "own", "harmless")}
    assert missing == {
        "tiny": [models / "classifier"],
        "own": [models / "tiny-lcm" / "safety_checker"],
        "harmless": [],
    }
    assert not any(catalog.missing(name, checked=False) for name in missing)
    assert catalog.on_disk(catalog["tiny"])


def test_the_checker_of_a_model_of_the_hub_is_in_its_repository(models: Path) -> None:
    catalog = catalog_in(models)
    weights = replace(catalog["own"].weights, path=None, hub="owner/name", revision="main")
    checker = catalog.checker(replace(catalog["own"], weights=weights))
    assert checker == replace(weights, marker="safety_checker/config.json", beside=("feature_extractor",))
