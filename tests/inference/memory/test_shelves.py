"""The tiers of a device with memory of its own: a GPU's where there is one, and as a CPU plays them, which copies into
its live networks."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import pytest
import torch

from inference.catalog import Catalog
from inference.loading import open_model
from inference.memory import shelves as shelves_module
from inference.memory.layout import Architecture
from inference.memory.page_locked import EXACT, host_memory, take_exact_sizes
from inference.memory.part import Label, Part, flatten
from inference.memory.shelves import Shelves
from inference.memory.slot import Slot
from tests.checkpoints import TinyModels
from tests.inference.gpu import ON_GPU_TOO, needs_gpu

CPU = torch.device("cpu")
ROOMY = 10**9
A_WHILE = 20_000_000
"""Cycles of a GPU, some ten milliseconds."""
Labels = dict[str, Label]


@pytest.fixture(scope="module")
def parts(tiny_models: TinyModels) -> dict[str, dict[str, Part]]:
    """The parts of two models of one architecture, which share the autoencoder."""
    catalog = Catalog.load(tiny_models.catalog)

    def read(name: str) -> dict[str, Part]:
        networks = open_model(catalog, catalog[name], ()).networks(lambda: None)
        return {part: flatten(network, Architecture.of(network, torch.float32)) for part, network in networks.items()}

    return {name: read(name) for name in ("tiny", "tiny-flat")}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the live networks that have been built, in order."""
    kinds: list[str] = []

    class Noted(Slot):
        def __init__(self, architecture: Architecture, *arguments: object, **options: object) -> None:
            kinds.append(architecture.kind)
            super().__init__(architecture, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(shelves_module, "Slot", Noted)
    return kinds


class Apart(Protocol):
    def __call__(self, *, device: int = ROOMY, host: int = ROOMY) -> Shelves:
        """Shelves of a device with memory of its own, of so many bytes, and as many beside it."""


@pytest.fixture(params=ON_GPU_TOO)
def apart(request: pytest.FixtureRequest) -> Apart:
    on = torch.device(request.param)
    return lambda *, device=ROOMY, host=ROOMY: Shelves(on, device_bytes=device, host_bytes=host, apart=True)


def total(model: dict[str, Part]) -> int:
    return sum(part.bytes for part in model.values())


@contextmanager
def used(shelves: Shelves, model: dict[str, Part], *, kept: bool = True) -> Iterator[Callable[[str], torch.nn.Module]]:
    """A model as the store uses it: ``kept`` on the host's shelf, or only arriving."""
    if kept and shelves.make_room(total(model)):
        shelves.keep(model.values(), seconds=1.0)
    arriving = {} if kept else {part.label.digest: part for part in model.values()}
    with shelves.hold(part.label for part in model.values()):
        yield lambda name: shelves.live(model[name].label, arriving)


def assert_holds(network: torch.nn.Module, part: Part) -> None:
    theirs = part.views
    assert all(torch.equal(tensor.cpu(), theirs[name]) for name, tensor in network.named_parameters())


def near(shelves: Shelves, part: Part) -> bool:
    return part.label.digest in shelves._on_device


def test_live_networks_hold_what_they_are_asked_for_and_are_built_once(
    parts: dict[str, dict[str, Part]], apart: Apart, built: list[str]
) -> None:
    shelves = apart()
    for name in ("tiny", "tiny-flat", "tiny", "tiny-flat"):
        with used(shelves, parts[name]) as live:
            for part in parts[name]:
                assert_holds(live(part), parts[name][part])
    assert sorted(built) == ["AutoencoderKL", "CLIPTextModel", "UNet2DConditionModel"]


def test_a_part_is_on_the_device_once_until_it_takes_turns(parts: dict[str, dict[str, Part]], apart: Apart) -> None:
    shelves, (one, other) = apart(), parts.values()
    for model in (one, other, one):
        with used(shelves, model) as live:
            live("unet"), live("vae")
        if model is one and not near(shelves, other["unet"]):
            assert not near(shelves, one["unet"])
    assert near(shelves, one["unet"])
    assert near(shelves, other["unet"])
    assert not near(shelves, one["vae"]), "both have the same, so it never leaves its network"


def test_without_room_on_the_device_parts_come_from_beside_it_and_nothing_is_built_twice(
    parts: dict[str, dict[str, Part]], apart: Apart, built: list[str]
) -> None:
    shelves = apart(device=1)
    for name in ("tiny", "tiny-flat", "tiny"):
        with used(shelves, parts[name]) as live:
            networks = {part: live(part) for part in parts[name]}
            assert {part: live(part) for part in parts[name]} == networks
            for part, network in networks.items():
                assert_holds(network, parts[name][part])
    assert len(built) == 3


def test_the_devices_budget_holds_beside_its_live_networks(parts: dict[str, dict[str, Part]], apart: Apart) -> None:
    one, other = parts.values()
    budget = total(one) + one["unet"].bytes + 1_000
    shelves = apart(device=budget)
    for model in (one, other, one, other, one):
        with used(shelves, model) as live:
            assert_holds(live("unet"), model["unet"])
            live("vae"), live("text_encoder")
            assert shelves._on_device.bytes <= budget


def test_what_no_shelf_takes_is_used_as_it_arrives(parts: dict[str, dict[str, Part]], apart: Apart) -> None:
    shelves, (one, other) = apart(device=1, host=1), parts.values()
    assert not shelves.make_room(total(one))
    for model in (one, other):
        with used(shelves, model, kept=False) as live:
            assert_holds(live("unet"), model["unet"])
    assert shelves.has(other["unet"].label), "it is in its live network"
    assert not shelves.has(one["unet"].label)
    with used(shelves, other) as live:
        assert_holds(live("unet"), other["unet"])
    with pytest.raises(LookupError), used(shelves, one) as live:
        live("unet")


def test_what_is_lifted_ahead_of_its_use_is_there_and_what_is_in_use_stays(
    parts: dict[str, dict[str, Part]], apart: Apart
) -> None:
    shelves, (one, other) = apart(), parts.values()
    with used(shelves, one) as live:
        network = live("unet")
        shelves.keep(other.values(), seconds=1.0)
        shelves.lift(other.values())
        assert near(shelves, other["unet"])
        assert_holds(network, one["unet"])
    with used(shelves, other) as live:
        assert_holds(live("unet"), other["unet"])
    assert near(shelves, other["unet"]), "they take turns"


def test_what_was_lifted_ahead_and_has_its_architecture_to_itself_is_on_the_device_once(
    parts: dict[str, dict[str, Part]], apart: Apart
) -> None:
    shelves, one = apart(), parts["tiny"]
    shelves.keep(one.values(), seconds=1.0)
    shelves.lift(one.values())
    assert near(shelves, one["unet"])
    with used(shelves, one) as live:
        for part in one:
            assert_holds(live(part), one[part])
    assert shelves._on_device.bytes == total(one)
    with used(shelves, one) as live:
        assert_holds(live("unet"), one["unet"])


def test_freeing_leaves_what_is_to_be_kept_in_its_live_network_alone_and_builds_nothing(
    parts: dict[str, dict[str, Part]], apart: Apart, built: list[str]
) -> None:
    shelves, (one, other) = apart(), parts.values()
    for model in (one, other, one, other):
        with used(shelves, model) as live:
            live("unet"), live("vae")
    before = list(built)
    shelves.free(keep=[part.label for part in one.values()])
    assert near(shelves, one["unet"]), "the live network has the other's"
    with used(shelves, one) as live:
        live("unet")
    shelves.free(keep=[part.label for part in one.values()])
    assert not near(shelves, one["unet"]), "a second copy"
    with used(shelves, one) as live:
        assert_holds(live("unet"), one["unet"])
    assert built == before
    shelves.free()
    shelves.free(keep=[part.label for part in one.values()])
    assert shelves._on_device.bytes == 0
    with used(shelves, one) as live:
        assert_holds(live("unet"), one["unet"])


def test_starting_over_leaves_only_what_lies_ready_for_the_model_that_is_to_be_drawn(
    parts: dict[str, dict[str, Part]], apart: Apart
) -> None:
    """Host memory may be what ran out, or device memory."""
    shelves, (one, other) = apart(), parts.values()
    for model in (one, other):
        with used(shelves, model) as live:
            live("unet"), live("vae"), live("text_encoder")
    shelves.start_over([part.label for part in one.values()])
    assert shelves.bytes == total(one)
    assert all(shelves.peek(part.label) for part in one.values())


def test_a_model_that_is_larger_than_the_budget_has_the_device_to_itself(
    parts: dict[str, dict[str, Part]], tiny_models: TinyModels, apart: Apart
) -> None:
    catalog = Catalog.load(tiny_models.catalog)
    networks = open_model(catalog, catalog["tiny-xl"], ()).networks(lambda: None)
    large = {part: flatten(network, Architecture.of(network, torch.float32)) for part, network in networks.items()}
    small = parts["tiny"]
    shelves = apart(device=total(large) - 1)
    with used(shelves, small) as live:
        live("unet"), live("vae")
    with used(shelves, large) as live:
        for part in large:
            assert_holds(live(part), large[part])
        assert shelves._on_device.bytes == total(large)


def test_what_is_put_away_leaves_though_it_is_in_use_and_comes_back_when_it_is_asked_for(
    parts: dict[str, dict[str, Part]], apart: Apart
) -> None:
    shelves, (one, other) = apart(), parts.values()
    for model in (other, one):
        with used(shelves, model) as live:
            live("unet"), live("vae")
            gone = weakref.ref(live("unet"))
            assert shelves.put_away([model["unet"].label], {}, lose=False)
            assert gone() is None
            assert shelves._on_device.bytes == model["vae"].bytes
            assert not shelves.put_away([model["unet"].label], {}, lose=False)
            assert_holds(live("unet"), model["unet"])
            shelves.free()
            assert_holds(live("unet"), model["unet"])
            assert shelves._on_device.bytes == model["unet"].bytes + model["vae"].bytes, "and is in use again"


def test_the_last_copy_is_put_away_only_to_be_lost(parts: dict[str, dict[str, Part]], apart: Apart) -> None:
    shelves, one = apart(host=1), parts["tiny"]
    label = one["unet"].label
    with used(shelves, one, kept=False) as live:
        live("unet")
        assert not shelves.put_away([label], {}, lose=False)
        assert shelves.put_away([label], {label.digest: one["unet"]}, lose=False), "it could come back"
        live("unet")
        assert shelves.put_away([label], {}, lose=True)
    assert not shelves.has(label)


def test_compiled_networks_are_not_put_away(parts: dict[str, dict[str, Part]]) -> None:
    torch._dynamo.reset()
    shelves = Shelves(CPU, device_bytes=ROOMY, host_bytes=ROOMY, compiler="eager", apart=True)
    one = parts["tiny"]
    with used(shelves, one) as live:
        networks = {name: live(name) for name in one}
        assert shelves.put_away([part.label for part in one.values()], {}, lose=True)
        for name in ("unet", "vae"):
            assert live(name) is networks[name]
        assert live("text_encoder") is not networks["text_encoder"]


def test_where_weights_are_computed_with_in_host_memory_nothing_is_put_away(parts: dict[str, dict[str, Part]]) -> None:
    shelves, one = Shelves(CPU, device_bytes=ROOMY, host_bytes=0), parts["tiny"]
    with used(shelves, one) as live:
        live("unet")
        assert not shelves.put_away([part.label for part in one.values()], {}, lose=True)
        assert_holds(live("unet"), one["unet"])


def test_of_a_model_too_large_to_be_kept_beside_its_device_the_smaller_parts_are_where_nothing_leaves_for_them(
    parts: dict[str, dict[str, Part]],
) -> None:
    one, other = parts.values()
    sizes = {name: part.bytes for name, part in one.items()}
    small = sizes["text_encoder"] + sizes["vae"]
    shelves = Shelves(CPU, device_bytes=ROOMY, host_bytes=small, apart=True)
    assert shelves.make_room_for(sizes) == {"text_encoder", "vae"}
    shelves.keep([other["text_encoder"]], seconds=1.0)
    assert shelves.make_room_for(sizes) == {"text_encoder"}
    assert shelves.has(other["text_encoder"].label)
    assert Shelves(CPU, device_bytes=ROOMY, host_bytes=total(one), apart=True).make_room_for(sizes) == set(one)
    assert Shelves(CPU, device_bytes=1, host_bytes=0).make_room_for(sizes) == set(one), "by itself"


@pytest.mark.parametrize("compiler", [None, "eager"])
def test_a_live_network_that_leaves_is_gone_at_once_compiled_or_not(
    parts: dict[str, dict[str, Part]], compiler: str | None
) -> None:
    torch._dynamo.reset()
    shelves, one = Shelves(CPU, device_bytes=ROOMY, host_bytes=ROOMY, compiler=compiler, apart=True), parts["tiny"]
    with used(shelves, one) as live, torch.inference_mode():
        unet, vae = live("unet"), live("vae")
        guidance = torch.zeros(1, unet.config.time_cond_proj_dim)
        drawn = unet(torch.zeros(1, 4, 8, 8), torch.tensor(1), torch.zeros(1, 16, 32), timestep_cond=guidance).sample
        vae.decode(drawn)
    networks = [weakref.ref(unet), weakref.ref(vae.decoder)]
    del unet, vae
    gc.disable()
    try:
        shelves.free()
        assert [network() for network in networks] == [None, None]
    finally:
        gc.enable()


def test_a_use_counts_once_however_often_the_network_is_asked_for(parts: dict[str, dict[str, Part]]) -> None:
    shelves, one = Shelves(CPU, device_bytes=ROOMY, host_bytes=0), parts["tiny"]
    for _ in range(3):
        with used(shelves, one) as live:
            for _ in range(5):
                live("unet")
    kept = shelves._on_device._kept
    assert {kept[part.label.digest].uses for part in one.values()} == {4}, "arriving, and three times"


@needs_gpu
@pytest.mark.parametrize("late", ["copying", "drawing"])
def test_weights_that_arrive_beside_the_drawing_are_whole_when_they_are_used(
    parts: dict[str, dict[str, Part]], late: str
) -> None:
    """Room for one copy only: each takes the memory of the one before, of which the device may still be reading.

    Where copying is late, what does not wait for it reads too early; where drawing is, what takes its memory writes too
    early.
    """
    device = torch.device("cuda", 0)
    labels = {name: model["unet"].label for name, model in parts.items()}
    shelves = Shelves(device, device_bytes=2 * labels["tiny"].bytes, host_bytes=ROOMY)
    for model in parts.values():
        shelves.keep([model["unet"].settled(pinned=True)], seconds=1.0)
    stream = shelves._side if late == "copying" else torch.cuda.current_stream(device)
    seen: list[tuple[str, dict[str, torch.Tensor]]] = []
    for name in ("tiny", "tiny-flat") * 10:
        with torch.cuda.stream(stream):
            torch.cuda._sleep(A_WHILE)
        with shelves.hold([labels[name]]):
            network = shelves.live(labels[name], {})
        seen.append((name, {tensor: value.clone() for tensor, value in network.named_parameters()}))
    for name, tensors in seen:
        theirs = parts[name]["unet"].views
        assert all(torch.equal(tensor.cpu(), theirs[key]) for key, tensor in tensors.items())


@needs_gpu
def test_a_gpus_own_numbers_stay_within_the_budgets(parts: dict[str, dict[str, Part]]) -> None:
    shelves, (one, other) = Shelves(torch.device("cuda", 0), device_bytes=ROOMY, host_bytes=ROOMY), parts.values()
    before, locked = torch.cuda.memory_allocated(), page_locked_bytes()
    kept = [part.settled(pinned=True) for part in {**one, "other": other["unet"]}.values()]
    assert all(part.flat.is_pinned() for part in kept)
    shelves.keep(kept, seconds=1.0)
    for model in (one, other, one):
        with shelves.hold([model["unet"].label]):
            shelves.live(model["unet"].label, {})
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() - before <= shelves._on_device.bytes + 512 * len(kept)
    small = 2**24
    assert page_locked_bytes() - locked <= sum(max(part.bytes, 2 * min(part.bytes, small)) for part in kept)


@needs_gpu
def test_page_locked_memory_is_as_large_as_asked_for_and_given_back() -> None:
    take_exact_sizes()
    before, asked = page_locked_bytes(), 70_000_000
    memory = host_memory(asked, locked=True)
    assert memory.is_pinned()
    assert page_locked_bytes() - before < 1.01 * asked
    del memory
    assert page_locked_bytes() == before


def page_locked_bytes() -> int:
    return int(torch.cuda.host_memory_stats()["allocated_bytes.current"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can lock memory")
def test_where_no_memory_can_be_page_locked_weights_lie_in_other_memory(caplog: pytest.LogCaptureFixture) -> None:
    memory = host_memory(5_000_000, locked=True)
    assert (memory.numel(), memory.dtype, memory.is_pinned()) == (5_000_000, torch.uint8, False)
    assert "5 MB could not be page-locked" in caplog.text


@pytest.mark.skipif(torch.__version__ < "2.13", reason="this torch rounds pinned memory up in any case")
def test_what_somebody_has_told_torchs_allocator_stays_told() -> None:
    told = torch._C._accelerator_getAllocatorSettings()
    try:
        torch._C._accelerator_setAllocatorSettings("expandable_segments:False")
        for _ in range(2):
            take_exact_sizes()
        assert torch._C._accelerator_getAllocatorSettings() == f"expandable_segments:False,{EXACT}"
        torch._C._accelerator_setAllocatorSettings("pinned_max_cached_size_mb:512")
        take_exact_sizes()
        assert torch._C._accelerator_getAllocatorSettings() == "pinned_max_cached_size_mb:512"
    finally:
        torch._C._accelerator_setAllocatorSettings(told)
