"""Models in memory: brought up once, ahead of their use or not, within their budget, never changed, never leaked."""

from __future__ import annotations

import gc
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.catalog import Catalog
from inference.catalog.entries import Family
from inference.contract import Adapter
from inference.drawing.engine import Engine
from inference.drawing.models import ModelKey, model_store
from inference.errors import InferenceError, UnknownModel, WeightsMissing, WeightsUnreadable
from inference.loading import load as load_module
from inference.loading import open_model
from inference.memory.budgets import Budgets
from inference.memory.layout import Architecture
from inference.memory.part import Part
from inference.memory.shelves import Shelves
from inference.memory.store import ModelStore, _Load
from tests.checkpoints import TinyModels
from tests.inference.batches import batch, row
from tests.inference.tensors import alive, alive_bytes
from tests.layouts import pipeline, save_single_file

CPU = torch.device("cpu")
TINY: ModelKey = ("tiny", ())
FLAT: ModelKey = ("tiny-flat", ())
LORA: ModelKey = ("tiny-lora", ())
XL: ModelKey = ("tiny-xl", ())
STYLED: ModelKey = ("tiny-lora", (Adapter(name="flat", strength=0.5),))
ALL = (TINY, FLAT, LORA, XL, STYLED)


def silent(parts_read: int) -> None:
    pass


def store_of(tiny_models: TinyModels, budgets: Budgets | None = None) -> ModelStore[ModelKey]:
    return model_store(
        Catalog.load(tiny_models.catalog), device=CPU, precision=torch.float32, budgets=budgets or Budgets()
    )


@pytest.fixture
def store(tiny_models: TinyModels) -> Iterator[ModelStore[ModelKey]]:
    store = store_of(tiny_models)
    yield store
    store.close()


def use(store: ModelStore[ModelKey], key: ModelKey) -> tuple[float, int]:
    """A sum over the denoiser's weights, and the bytes of the model."""
    with store.use(key, silent) as model:
        return float(sum(weight.double().sum() for weight in model.unet.parameters())), model.bytes


def settle(store: ModelStore[ModelKey]) -> None:
    """Until nothing is being read any more."""
    while store._loads:
        time.sleep(0.01)


def test_a_model_is_read_once(store: ModelStore[ModelKey], reads: list[str]) -> None:
    assert len({use(store, TINY) for _ in range(3)}) == 1
    assert reads == ["tiny"]
    assert store.resident == (TINY,)


def test_what_was_used_last_is_told_last(store: ModelStore[ModelKey]) -> None:
    for key in (TINY, XL, TINY):
        use(store, key)
    assert store.resident == (XL, TINY)


def test_parts_in_common_are_in_memory_once(store: ModelStore[ModelKey]) -> None:
    _, alone = use(store, TINY)
    _, other = use(store, FLAT)
    with store.use(TINY, silent) as model:
        vae = sum(weight.nbytes for weight in model.vae.parameters())
    assert alone + other - store._shelves.bytes >= vae


def test_a_model_of_the_same_shape_takes_the_place_of_the_other(store: ModelStore[ModelKey]) -> None:
    with store.use(TINY, silent) as model:
        network = model.unet
    with store.use(FLAT, silent) as model:
        assert model.unet is network
    assert len({use(store, key)[0] for key in ALL}) == len(ALL)


def test_a_model_read_ahead_is_there_when_it_is_wanted(store: ModelStore[ModelKey], reads: list[str]) -> None:
    with store.use(TINY, silent) as model:
        before = float(model.unet.conv_in.weight.sum())
        store.prefetch(XL)
        settle(store)
        assert float(model.unet.conv_in.weight.sum()) == before
    assert set(store.resident) == {TINY, XL}
    use(store, XL)
    store.prefetch(XL)
    settle(store)
    assert reads == ["tiny", "tiny-xl"]


def test_whoever_wants_what_is_being_read_waits_for_that(store: ModelStore[ModelKey], reads: list[str]) -> None:
    store.prefetch(XL)
    use(store, XL)
    assert reads == ["tiny-xl"]


@pytest.mark.parametrize(("key", "failure"), [(("nope", ()), UnknownModel), (("absent", ()), WeightsMissing)])
def test_what_is_wrong_is_told_when_it_is_used(store: ModelStore[ModelKey], key: ModelKey, failure: type) -> None:
    store.prefetch(key)
    settle(store)
    for _ in range(2):
        with pytest.raises(InferenceError) as refusal:
            use(store, key)
        assert isinstance(refusal.value.failure, failure)
    use(store, TINY)


def test_whoever_stops_waiting_finds_it_read_the_next_time(store: ModelStore[ModelKey], reads: list[str]) -> None:
    class EnoughError(Exception):
        pass

    def stop(parts_read: int) -> None:
        raise EnoughError

    with pytest.raises(EnoughError), store.use(XL, stop):
        pass
    settle(store)
    use(store, XL)
    assert reads == ["tiny-xl"]


def test_a_model_is_not_read_ahead_where_that_would_take_the_room_of_the_one_in_use(
    tiny_models: TinyModels, reads: list[str]
) -> None:
    _, needed = use(store_of(tiny_models), TINY)
    store = store_of(tiny_models, Budgets(device=needed + 100_000))
    with store.use(TINY, silent):
        store.prefetch(XL)
        settle(store)
        assert store.resident == (TINY,)
        assert store._shelves.bytes <= needed + 100_000
    assert reads == ["tiny", "tiny"]
    use(store, XL)
    assert store.resident == (XL,)
    assert reads == ["tiny", "tiny", "tiny-xl"]


def test_whoever_joins_a_reading_ahead_without_room_gets_what_it_reads(
    tiny_models: TinyModels, reads: list[str]
) -> None:
    _, needed = use(store_of(tiny_models), TINY)
    store = store_of(tiny_models, Budgets(device=needed + 100_000))
    joined = threading.Event()

    def on_wait(parts_read: int) -> None:
        if not joined.is_set():
            joined.set()
            store._turn.release()

    with store.use(TINY, silent):
        store._turn.acquire()
        store.prefetch(XL)
        with store.use(XL, on_wait) as model:
            assert model.unet.config.addition_embed_type == "text_time"
    assert reads == ["tiny", "tiny", "tiny-xl"]


def test_room_is_made_before_a_model_is_read(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    _, other = use(store_of(tiny_models), TINY)
    _, needed = use(store_of(tiny_models), XL)
    store = store_of(tiny_models, Budgets(device=needed + 100_000))
    held: list[int] = []
    networks = load_module.ModelFiles.networks

    def noted(files: load_module.ModelFiles, on_part: Callable[[], None]) -> object:
        held.append(store._shelves.bytes)
        return networks(files, on_part)

    monkeypatch.setattr(load_module.ModelFiles, "networks", noted)
    for key in (TINY, XL):
        use(store, key)
    assert held[0] == 0
    assert held[1] < other / 2, "of what was there, only what has room beside it"


SINGLE = """
[models.single]
family = "sd15"
kind = "merged"
weights = { path = "single.safetensors" }
size = [64, 64]
sides = [64, 64]
"""


def test_what_a_model_takes_is_about_known_from_its_headers(tiny_models: TinyModels, tmp_path: Path) -> None:
    path = tmp_path / "single.safetensors"
    save_single_file(pipeline(Family.SD15), path)
    save_file({**load_file(path), "model_ema.kept_from_training": torch.zeros(1_000_000)}, path)
    (tmp_path / "models.toml").write_text('default = "single"' + SINGLE)
    known = [(Catalog.load(tiny_models.catalog), key) for key in ALL]
    for catalog, (name, adapters) in [*known, (Catalog.load(tmp_path / "models.toml"), ("single", ()))]:
        files = open_model(catalog, catalog[name], adapters)
        networks = files.networks(lambda: None).values()
        for precision in (torch.float32, torch.float16):
            needed = sum(Architecture.of(network, precision).bytes for network in networks)
            assert files.parameter_count * precision.itemsize == pytest.approx(needed, rel=0.1)


def test_of_what_cannot_be_read_no_size_is_expected(copied: TinyModels) -> None:
    catalog = Catalog.load(copied.catalog)
    weights = next((copied.native / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    assert open_model(catalog, catalog["tiny"], ()).parameter_count == 0
    with pytest.raises(InferenceError) as refusal:
        use(store_of(copied), TINY)
    assert isinstance(refusal.value.failure, WeightsUnreadable)


# -- a device with memory of its own, and no room beside it, as MPS has it ---------------------------------------------


def alone(tiny_models: TinyModels, budgets: Budgets | None = None) -> ModelStore[ModelKey]:
    store = store_of(tiny_models, budgets)
    store._shelves = Shelves(CPU, device_bytes=10**9, host_bytes=0, apart=True)
    return store


def test_where_nothing_is_kept_beside_the_device_nothing_is_read_ahead(
    tiny_models: TinyModels, reads: list[str]
) -> None:
    store = alone(tiny_models)
    store.prefetch(XL)
    settle(store)
    assert reads == []
    use(store, XL)
    assert reads == ["tiny-xl"]


def test_a_text_encoder_that_nobody_asks_for_is_read_once_all_the_same(
    tiny_models: TinyModels, reads: list[str]
) -> None:
    """Embeddings of prompts are kept: a model may draw for long without its text encoder, which is part of it."""
    store = alone(tiny_models)

    def draw(key: ModelKey, *, prompt_is_new: bool) -> None:
        with store.use(key, silent) as model:
            if prompt_is_new:
                _ = [stage.encoder for stage in model.text]

    draw(TINY, prompt_is_new=True)
    draw(STYLED, prompt_is_new=True)
    encoders = {store._known[key].manifest.parts["text_encoder"].digest for key in (TINY, STYLED)}
    assert len(encoders) == 2
    for key in (TINY, STYLED) * 3:
        draw(key, prompt_is_new=False)
    assert sorted(reads) == ["tiny", "tiny", "tiny-lora"]


def test_what_only_passes_through_the_machines_memory_leaves_it_once_it_is_on_the_device(
    tiny_models: TinyModels,
) -> None:
    store, before = alone(tiny_models), alive_bytes()
    with store.use(TINY, silent) as model:
        text = store._known[TINY].manifest.parts["text_encoder"].bytes
        assert alive_bytes() - before <= model.bytes + text + 100_000


def test_a_model_that_only_passes_through_the_machines_memory_is_kept_on_disk(
    tiny_models: TinyModels, tmp_path: Path, reads: list[str]
) -> None:
    budgets = Budgets(folder=tmp_path / "weights", disk=10**9)
    first = alone(tiny_models, budgets)
    drawn = use(first, TINY)
    first.close()
    second = alone(tiny_models, budgets)
    assert use(second, TINY) == drawn
    assert reads == ["tiny"]
    second.close()


def test_a_model_larger_than_the_budget_is_kept_by_itself(tiny_models: TinyModels, reads: list[str]) -> None:
    store = store_of(tiny_models, Budgets(device=1))
    for key in (TINY, TINY, FLAT, FLAT):
        use(store, key)
    assert reads == ["tiny", "tiny-flat"]
    assert store.resident == (FLAT,)


def test_weights_that_left_give_their_memory_back(tiny_models: TinyModels) -> None:
    """By the storages that are really alive, not by our own account."""
    store = store_of(tiny_models, Budgets(device=1))
    before = alive_bytes()
    for key in (TINY, XL, FLAT, TINY):
        _, needed = use(store, key)
        assert alive_bytes() - before <= needed + 100_000


@pytest.mark.parametrize("budget", [6_000_000, 12_000_000])
def test_the_budget_is_kept_at_every_moment(tiny_models: TinyModels, budget: int) -> None:
    store, dice = store_of(tiny_models, Budgets(device=budget)), random.Random(budget)
    over: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            held = store._shelves.bytes
            if held > budget and len(store.resident) > 1:
                over.append(held)
            time.sleep(0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(40):
            store.prefetch(dice.choice(ALL))
            use(store, dice.choice(ALL))
    finally:
        done.set()
        watcher.join()
    assert over == []


def test_a_hundred_switches_leave_every_bit_as_it_was(store: ModelStore[ModelKey]) -> None:
    def bits(key: ModelKey) -> list[bytes]:
        with store.use(key, silent) as model:
            networks = (model.unet, model.vae, *(stage.encoder for stage in model.text))
            return [weight.numpy().tobytes() for network in networks for weight in network.state_dict().values()]

    before = {key: bits(key) for key in ALL}
    dice = random.Random(0)
    for _ in range(100):
        use(store, dice.choice(ALL))
    assert {key: bits(key) for key in ALL} == before


def test_two_hundred_switches_leave_memory_flat(tiny_models: TinyModels) -> None:
    engine = Engine(catalog=Catalog.load(tiny_models.catalog), device="cpu", precision="fp32")
    process, dice = psutil.Process(), random.Random(1)

    def switch(times: int) -> None:
        for _ in range(times):
            name, adapters = dice.choice(ALL)
            guidance = 1.0 if name in {"tiny-lora", "tiny-xl-merged"} else 8.0
            engine.draw(
                batch(row(prompt="a", guidance=guidance), model=name, adapters=adapters, steps=1), lambda _: None
            )

    switch(40)
    objects, resident = len(alive()), process.memory_info().rss
    switch(200)
    assert abs(len(alive()) - objects) <= 4, "a live network more or less"
    assert process.memory_info().rss - resident < 20_000_000


def test_a_reading_that_could_not_begin_begins_the_next_time(
    store: ModelStore[ModelKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as machine:
        machine.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="new thread"):
            use(store, TINY)
    assert use(store, TINY)[1] > 0


def test_what_was_kept_on_disk_is_not_read_from_its_files_again(
    tiny_models: TinyModels, tmp_path: Path, reads: list[str]
) -> None:
    budgets = Budgets(folder=tmp_path / "weights", disk=10**9)
    first = store_of(tiny_models, budgets)
    drawn = {key: use(first, key) for key in ALL}
    first.close()
    del reads[:]
    second = store_of(tiny_models, budgets)
    assert {key: use(second, key) for key in ALL} == drawn
    assert reads == []
    second.close()


def test_changed_files_are_read_and_not_what_was_kept_of_them(tiny_models: TinyModels, tmp_path: Path) -> None:
    budgets = Budgets(folder=tmp_path / "weights", disk=10**9)
    for strength in (0.5, 1.0):
        store = store_of(tiny_models, budgets)
        summed, _ = use(store, ("tiny-lora", (Adapter(name="flat", strength=strength),)))
        store.close()
        assert summed == use(store_of(tiny_models), ("tiny-lora", (Adapter(name="flat", strength=strength),)))[0]


def test_a_part_that_is_missing_is_told_where_weights_are_kept_on_disk_too(copied: TinyModels, tmp_path: Path) -> None:
    shutil.rmtree(copied.native / "vae")
    with pytest.raises(InferenceError) as refusal:
        use(store_of(copied, Budgets(folder=tmp_path / "weights", disk=10**9)), TINY)
    assert isinstance(refusal.value.failure, WeightsUnreadable)


def test_two_threads_that_build_networks_leave_torch_as_it_was(tiny_models: TinyModels) -> None:
    catalog = Catalog.load(tiny_models.catalog)
    files = open_model(catalog, catalog["tiny"], ())
    architectures = [Architecture.of(network, torch.float32) for network in files.networks(lambda: None).values()]
    builds = [files.networks, lambda _: [architecture.build() for architecture in architectures]]

    def often(build: Callable[[Callable[[], None]], object]) -> None:
        for _ in range(15):
            build(lambda: None)

    with ThreadPoolExecutor() as threads:
        list(threads.map(often, builds))
    assert torch.nn.Linear(2, 2).weight.device == CPU, "it would be without memory"
    assert torch.nn.Module.register_parameter.__module__ == "torch.nn.modules.module"


def test_a_model_of_which_a_part_has_left_is_not_kept_on_disk(tiny_models: TinyModels, tmp_path: Path) -> None:
    budgets = Budgets(folder=tmp_path / "weights", disk=10**9)
    store = store_of(tiny_models, budgets)
    with store.use(TINY, silent):
        labels = dict(store._known[TINY].manifest.parts)
    store.close()
    shutil.rmtree(tmp_path / "weights")
    store._shelves._on_device.drop(labels["vae"].digest)
    store._write("a key", labels, {})
    assert not (tmp_path / "weights").exists()


# -- files that change -------------------------------------------------------------------------------------------------


def replace(path: Path) -> None:
    """Replace a file by other weights, as trainers do at the end of every run."""
    changed = {name: tensor * 0.9 for name, tensor in load_file(path).items()}
    save_file(changed, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def test_a_file_that_is_replaced_is_read_again(copied: TinyModels, reads: list[str]) -> None:
    store = store_of(copied)
    before = use(store, LORA)
    replace(copied.lcm_lora)
    after = use(store, LORA)
    assert after != before
    assert use(store, LORA) == after
    assert reads == ["tiny-lora"] * 2
    assert use(store_of(copied), LORA) == after


def test_what_is_gone_from_disk_is_still_drawn_with(copied: TinyModels, reads: list[str]) -> None:
    store = store_of(copied)
    before = use(store, LORA)
    copied.lcm_lora.unlink()
    assert use(store, LORA) == before
    assert reads == ["tiny-lora"]


def test_a_file_that_is_replaced_while_others_are_read_is_read_once(copied: TinyModels, reads: list[str]) -> None:
    store = store_of(copied)
    with store._turn:
        store.prefetch(LORA)
        replace(copied.lcm_lora)
    summed = use(store, LORA)
    assert reads == ["tiny-lora"]
    assert summed == use(store_of(copied), LORA)


def test_what_a_load_that_failed_had_read_is_freed_at_once(copied: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not when the garbage collector happens to run: it may be a whole model, and the next try reads it again."""
    networks = load_module.ModelFiles.networks

    def overtaken(files: load_module.ModelFiles, on_part: Callable[[], None]) -> object:
        read = networks(files, on_part)
        replace(copied.lcm_lora)
        return read

    monkeypatch.setattr(load_module.ModelFiles, "networks", overtaken)
    store, before = store_of(copied), alive_bytes()
    gc.disable()
    try:
        with pytest.raises(InferenceError, match="replaced while it was being read") as refusal:
            use(store, LORA)
        settle(store)
        assert alive_bytes(collect=False) - before < 100_000
    finally:
        gc.enable()
    assert refusal.traceback[-1].name == "check_unchanged", "where it was found is still told"


class Late(Future[dict[str, Part]]):
    """Is done when whoever waits for it has just given up waiting."""

    def result(self, timeout: float | None = None) -> dict[str, Part]:
        if not self.done():
            self.set_result({})
            raise TimeoutError
        return super().result(timeout)


def test_a_load_that_ends_while_one_stops_listening_is_no_error(copied: TinyModels) -> None:
    store, catalog = store_of(copied), Catalog.load(copied.catalog)
    load = _Load(open_model(catalog, catalog["tiny"], ()), ahead=False, future=Late())
    assert store._wait(load, silent) == {}
