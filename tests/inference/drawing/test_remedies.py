"""Where memory is short: what gives way, in which order, and that the pictures stay the same."""

from __future__ import annotations

import json
import shutil
import weakref
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from inference.catalog import Catalog
from inference.catalog.entries import Family
from inference.contract import Phase, Progress
from inference.drawing import models as models_module
from inference.drawing.batch import tile_side
from inference.drawing.engine import Engine
from inference.errors import InferenceError, OutOfMemory
from inference.memory import shelves as shelves_module
from inference.memory.budgets import Budgets
from inference.memory.layout import Architecture
from inference.memory.part import Copy, Part
from inference.memory.shelves import Shelves
from inference.memory.slot import Slot
from tests.checkpoints import TinyModels
from tests.inference.batches import batch, row, silent
from tests.inference.likeness import psnr
from tests.layouts import pipeline, save_single_file


@pytest.fixture
def engine(tiny_models: TinyModels) -> Engine:
    """A fresh engine, with nothing loaded."""
    return Engine(catalog=Catalog.load(tiny_models.catalog), device="cpu", precision="fp32")


def test_running_out_of_memory_fails_in_words_and_gives_everything_back(engine: Engine) -> None:
    engine.draw(batch(), silent)
    with pytest.raises(InferenceError) as refusal:
        engine.draw(batch(width=2**25, height=2**25), silent)
    assert refusal.value.failure == OutOfMemory(model="tiny", width=2**25, height=2**25)
    assert refusal.value.__context__ is None, "the failed drawing's frames would keep its tensors"
    assert engine.resident == ("tiny",), "others give way, it does not"
    assert engine.draw(batch(), silent).pixels.std() > 0


def live_networks(engine: Engine) -> list[Slot]:
    return list(engine._models._shelves._slots.values())


def short_of_memory(engine: Engine, *, rows: int = 10**6, side: int = 10**6) -> None:
    """From now on, the engine's networks behave as on a device without room for more than this."""
    engine.draw(batch(), silent)

    def refuse(_network: Any, inputs: tuple[Any, ...], given: dict[str, Any]) -> None:
        sample = inputs[0] if inputs else given["sample"]
        if len(sample) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def refuse_large(_network: Any, inputs: tuple[Any, ...]) -> None:
        if max(inputs[0].shape[-2:]) > side:
            raise torch.OutOfMemoryError("CUDA out of memory")

    for slot in live_networks(engine):
        match slot.network:
            case UNet2DConditionModel():
                slot.network.register_forward_pre_hook(refuse, with_kwargs=True)
            case AutoencoderKL():
                slot.network.decoder.register_forward_pre_hook(refuse_large)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_batch_that_does_not_fit_is_halved_and_its_recipes_say_so(engine: Engine, limit: int) -> None:
    rows = tuple(row(index, seed=index) for index in range(5))
    whole = engine.draw(batch(*rows, bucket=8), silent)
    short_of_memory(engine, rows=limit)
    halved = engine.draw(batch(*rows, bucket=8), silent)
    assert [recipe.seed for recipe in halved.recipes] == [0, 1, 2, 3, 4]
    assert {recipe.bucket for recipe in halved.recipes} == {2 if limit > 1 else 1}
    assert psnr(whole.pixels, halved.pixels) > 40


def test_other_models_give_way_only_where_a_single_picture_does_not_fit(engine: Engine) -> None:
    engine.draw(batch(model="tiny-flat"), silent)
    short_of_memory(engine, rows=1)
    engine.draw(batch(row(0), row(1), bucket=2), silent)
    assert set(engine.resident) == {"tiny-flat", "tiny"}
    short_of_memory(engine, rows=0)
    with pytest.raises(InferenceError):
        engine.draw(batch(row(0), row(1), bucket=2), silent)
    assert engine.resident == ("tiny",)


def test_each_half_counts_its_own_guided_rows(engine: Engine) -> None:
    rows = [row(index, seed=index, guidance=guidance) for index, guidance in enumerate((1.0, 1.5, 2.0, 2.0, 1.0))]
    engine.draw(batch(model="tiny-lora"), silent)
    short_of_memory(engine, rows=4)
    halved = engine.draw(batch(*rows, model="tiny-lora", bucket=8), silent)
    assert [(recipe.bucket, recipe.guided_bucket) for recipe in halved.recipes] == [(4, 0), *[(4, 4)] * 3, (4, 0)]
    short_of_memory(engine, rows=2)
    quartered = engine.draw(batch(*rows, model="tiny-lora", bucket=8), silent)
    assert [recipe.guided_bucket for recipe in quartered.recipes] == [0, 1, 2, 2, 0]


def test_a_picture_too_large_for_the_autoencoder_is_decoded_in_tiles(engine: Engine) -> None:
    assert_tiled(engine)
    small = engine.draw(batch(), silent)
    assert small.pixels.shape[1:3] == (64, 64)


def test_where_only_decoding_lacks_memory_nothing_is_sampled_again(engine: Engine) -> None:
    engine.draw(batch(model="tiny-flat"), silent)
    rows = tuple(row(index, seed=index) for index in range(3))
    order = batch(*rows, bucket=4, width=256, height=256)
    whole = engine.draw(order, silent)
    short_of_memory(engine, side=16)
    heard: list[Progress] = []
    tiled = engine.draw(order, heard.append)
    assert [news.step for news in heard if news.phase is Phase.DRAWING] == [0, 1, 2]
    assert [recipe.bucket for recipe in tiled.recipes] == [4, 4, 4]
    assert all(psnr(one, other) > 15 for one, other in zip(whole.pixels, tiled.pixels, strict=True))
    assert engine.resident == ("tiny",), "others give way before seams are risked"
    assert tiled.unread == whole.unread


def test_a_picture_that_cannot_be_decoded_in_tiles_either_is_sampled_once(engine: Engine) -> None:
    short_of_memory(engine, side=8)
    heard: list[Progress] = []
    with pytest.raises(InferenceError) as refusal:
        engine.draw(batch(row(0), row(1), bucket=2, width=256, height=256), heard.append)
    assert refusal.value.failure == OutOfMemory(model="tiny", width=256, height=256)
    assert refusal.value.__context__ is None
    assert [news.step for news in heard if news.phase is Phase.DRAWING] == [0, 1, 2]
    assert engine.draw(batch(), silent).pixels.std() > 0


def assert_tiled(engine: Engine) -> None:
    """Tiles of 128 pixels serve where there is no room for more, and show what the whole picture does."""
    whole = engine.draw(batch(width=256, height=256), silent)
    short_of_memory(engine, side=16)
    sides: list[int] = []
    (vae,) = [slot.network for slot in live_networks(engine) if isinstance(slot.network, AutoencoderKL)]
    vae.decoder.register_forward_pre_hook(lambda _, inputs: sides.append(max(inputs[0].shape[-2:])))
    tiled = engine.draw(batch(width=256, height=256), silent)
    assert psnr(whole.pixels, tiled.pixels) > 15
    assert max(sides) == 16


def test_tiles_are_no_matter_of_the_size_that_an_autoencoder_was_trained_with(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    models = TinyModels(shutil.copytree(tiny_models.folder, tmp_path / "models"))
    config = models.native / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | {"sample_size": 1024}))
    assert_tiled(Engine(catalog=Catalog.load(models.catalog), device="cpu", precision="fp32"))


SINGLE = """
default = "tiny"
[models.tiny]
family = "sd15"
kind = "merged"
weights = { path = "tiny.safetensors" }
size = [64, 64]
sides = [64, 256]
harmless = true
"""


def test_tiles_of_a_single_file_which_says_nothing_of_sizes_are_as_large_as_others(tmp_path: Path) -> None:
    save_single_file(pipeline(Family.SD15), tmp_path / "tiny.safetensors")
    (tmp_path / "models.toml").write_text(SINGLE)
    assert_tiled(Engine(catalog=Catalog.load(tmp_path / "models.toml"), device="cpu", precision="fp32"))


@pytest.mark.parametrize(
    ("size", "side"), [((32, 32), 16), ((64, 64), 32), ((96, 64), 48), ((104, 152), 64), ((90, 70), 44)]
)
def test_tiles_are_half_a_picture_and_overlap_by_whole_latents(size: tuple[int, int], side: int) -> None:
    assert tile_side(*size) == side


def test_where_nothing_helps_it_is_said(engine: Engine) -> None:
    short_of_memory(engine, rows=0)
    with pytest.raises(InferenceError) as refusal:
        engine.draw(batch(), silent)
    assert refusal.value.failure == OutOfMemory(model="tiny", width=64, height=64)


# -- a device with memory of its own, as a CPU plays it ----------------------------------------------------------------

ROOMY = 10**12
XL = "tiny-xl-merged"


@dataclass
class Card:
    """Live networks and copies take what they are large; while a network computes, it takes ``working`` beside that.

    ``working`` is by the kind of network, in bytes per row; ``built`` counts the live networks by kind.
    """

    room: int = ROOMY
    working: dict[str, int] = field(default_factory=dict)
    built: Counter[str] = field(default_factory=Counter)
    taken: dict[int, int] = field(default_factory=dict)

    def require(self, needed: int) -> None:
        if sum(self.taken.values()) + needed > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def take(self, memory: list[Tensor]) -> None:
        """Until the memory itself is gone, whoever refers to it."""
        for piece in memory:
            storage = piece.untyped_storage()
            self.taken[storage.data_ptr()] = storage.nbytes()
            weakref.finalize(storage, self.taken.pop, storage.data_ptr())

    def before(self, network: Any, inputs: tuple[Any, ...], given: dict[str, Any]) -> None:
        sample = inputs[0] if inputs else given["sample"]
        self.require(self.working.get(type(network).__name__, 0) * len(sample))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    copied_to = Part.copied_to

    class OnCard(Slot):
        def __init__(self, architecture: Architecture, *arguments: Any, **options: Any) -> None:
            card.require(architecture.bytes)
            super().__init__(architecture, *arguments, **options)
            card.take(self._memory)
            card.built[architecture.kind] += 1
            computing = self.network.decoder if isinstance(self.network, AutoencoderKL) else self.network
            computing.register_forward_pre_hook(card.before, with_kwargs=True)

    def copied(part: Part, device: torch.device) -> Copy:
        card.require(part.bytes)
        copy = copied_to(part, device)
        card.take(copy.memory)
        return copy

    monkeypatch.setattr(shelves_module, "Slot", OnCard)
    monkeypatch.setattr(Part, "copied_to", copied)
    monkeypatch.setattr(models_module, "Shelves", partial(Shelves, apart=True))
    return card


@dataclass(frozen=True)
class Sizes:
    text: int
    unet: int
    vae: int

    @property
    def all(self) -> int:
        return self.text + self.unet + self.vae


@pytest.fixture(scope="module")
def sizes(tiny_models: TinyModels) -> Sizes:
    engine = Engine(catalog=Catalog.load(tiny_models.catalog), device="cpu", precision="fp32")
    engine.draw(batch(model=XL), silent)
    parts = engine._models._known[(XL, ())].manifest.parts
    return Sizes(
        text=parts["text_encoder"].bytes + parts["text_encoder_2"].bytes,
        unet=parts["unet"].bytes,
        vae=parts["vae"].bytes,
    )


def on_card(tiny_models: TinyModels, *, host: int = ROOMY) -> Engine:
    budgets = Budgets(device=ROOMY, host=host)
    return Engine(catalog=Catalog.load(tiny_models.catalog), device="cpu", precision="fp32", budgets=budgets)


def each_prompt(engine: Engine) -> list[bytes]:
    """Pictures of prompts that no text encoder has read before."""
    prompts = ("a red apple", "a blue car, at night", "(three:1.2) green frogs")
    drawn = [engine.draw(batch(row(prompt=prompt, guidance=2.0), model=XL), silent) for prompt in prompts]
    assert {(recipe.bucket, recipe.guided_bucket) for each in drawn for recipe in each.recipes} == {(1, 1)}
    return [each.pixels.tobytes() for each in drawn]


@pytest.fixture(scope="module")
def pictures(tiny_models: TinyModels) -> list[bytes]:
    return each_prompt(Engine(catalog=Catalog.load(tiny_models.catalog), device="cpu", precision="fp32"))


UNET, DECODER = "UNet2DConditionModel", "Decoder"


@pytest.mark.parametrize(
    ("room", "working", "built"),
    [
        pytest.param(lambda s: s.all, lambda s: {}, (1, 1, 1), id="all of it at once"),
        pytest.param(lambda s: s.all, lambda s: {UNET: s.text // 2}, (2, 1, 1), id="the text encoders to read"),
        pytest.param(lambda s: s.all, lambda s: {DECODER: s.unet}, (3, 3, 1), id="the denoiser to sample"),
        pytest.param(lambda s: s.unet + s.vae, lambda s: {}, (3, 3, 3), id="the text encoders without the rest"),
    ],
)
def test_what_a_model_needs_only_for_a_while_leaves_the_device_meanwhile(
    tiny_models: TinyModels, card: Card, sizes: Sizes, pictures: list[bytes], room: Any, working: Any, built: Any
) -> None:
    engine = on_card(tiny_models)
    card.room, card.working = room(sizes), working(sizes)
    assert each_prompt(engine) == pictures
    text, unet, vae = built
    assert card.built == {
        "CLIPTextModel": text,
        "CLIPTextModelWithProjection": text,
        "UNet2DConditionModel": unet,
        "AutoencoderKL": vae,
    }
    assert sum(card.taken.values()) <= card.room


def test_the_prompts_of_a_batch_are_read_once_however_often_it_is_halved(
    tiny_models: TinyModels, card: Card, sizes: Sizes
) -> None:
    engine, rows = on_card(tiny_models), [row(index, prompt=f"{index} apples", seed=index) for index in range(4)]
    card.room, card.working = sizes.all, {UNET: sizes.vae}
    halved = engine.draw(batch(*[replace(each, guidance=1.0) for each in rows], model=XL), silent)
    assert [recipe.bucket for recipe in halved.recipes] == [1, 1, 1, 1]
    assert [recipe.prompt for recipe in halved.recipes] == [each.prompt for each in rows]
    assert card.built["CLIPTextModel"] == card.built["CLIPTextModelWithProjection"] == 1


def test_other_models_leave_before_what_the_drawing_one_needs(
    tiny_models: TinyModels, card: Card, sizes: Sizes, pictures: list[bytes]
) -> None:
    engine = on_card(tiny_models)
    engine.draw(batch(), silent)
    card.room = sizes.all
    assert each_prompt(engine) == pictures
    assert card.built[UNET] == 2
    assert engine.resident == ("tiny", XL), "it is still beside the device"


@pytest.mark.parametrize("host", ["nothing", "the smaller parts"])
def test_where_the_machine_has_no_room_for_a_second_copy_models_are_drawn_all_the_same(
    tiny_models: TinyModels, card: Card, sizes: Sizes, pictures: list[bytes], reads: list[str], host: str
) -> None:
    engine = on_card(tiny_models, host=1 if host == "nothing" else sizes.text + sizes.vae)
    card.room, card.working = sizes.all, {UNET: sizes.text // 2}
    assert each_prompt(engine) == pictures
    assert len(reads) == (3 if host == "nothing" else 1)
    card.room = sizes.unet + sizes.vae
    assert each_prompt(engine) == pictures
    card.room, card.working = sizes.all, {DECODER: sizes.unet}
    assert each_prompt(engine) == pictures


def test_what_arrives_with_no_room_beside_the_device_is_read_once_for_a_drawing(
    tiny_models: TinyModels, card: Card, sizes: Sizes, reads: list[str]
) -> None:
    engine = on_card(tiny_models, host=1)
    card.room, card.working = sizes.unet + sizes.text, {UNET: sizes.text // 2}
    assert engine.draw(batch(model=XL), silent).pixels.std() > 0
    assert len(reads) == 1


def test_what_does_not_fit_by_any_means_fails_in_words_and_others_are_drawn(
    tiny_models: TinyModels, card: Card, sizes: Sizes, pictures: list[bytes]
) -> None:
    engine = on_card(tiny_models)
    card.room = sizes.unet - 1
    with pytest.raises(InferenceError) as refusal:
        engine.draw(batch(model=XL), silent)
    assert refusal.value.failure == OutOfMemory(model=XL, width=64, height=64)
    assert engine.draw(batch(), silent).pixels.std() > 0
    card.room = ROOMY
    assert each_prompt(engine) == pictures


def test_a_model_that_is_copied_ahead_waits_beside_a_full_device(
    tiny_models: TinyModels, card: Card, sizes: Sizes, pictures: list[bytes]
) -> None:
    engine = on_card(tiny_models)
    card.room = sizes.all
    each_prompt(engine)
    engine.prefetch("tiny", ())
    engine._models.close()
    assert set(engine.resident) == {"tiny", XL}
    assert engine.draw(batch(), silent).pixels.std() > 0
    assert each_prompt(engine) == pictures
