"""The tiers of a device with memory of its own, played by a CPU that copies into its live networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from inference.catalog import Catalog
from inference.loading import open_model
from inference.memory import shelves as shelves_module
from inference.memory.layout import Architecture
from inference.memory.part import Label, Part, flatten
from inference.memory.shelves import Shelves
from inference.memory.slot import Slot
from tests.checkpoints import TinyModels

ROOMY = 10**9
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


def apart(*, device: int = ROOMY, host: int = ROOMY) -> Shelves:
    return Shelves(torch.device("cpu"), device_bytes=device, host_bytes=host, apart=True)


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
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in network.named_parameters())


def near(shelves: Shelves, part: Part) -> bool:
    return part.label.digest in shelves._near


def test_live_networks_hold_what_they_are_asked_for_and_are_built_once(
    parts: dict[str, dict[str, Part]], built: list[str]
) -> None:
    shelves = apart()
    for name in ("tiny", "tiny-flat", "tiny", "tiny-flat"):
        with used(shelves, parts[name]) as live:
            for part in parts[name]:
                assert_holds(live(part), parts[name][part])
    assert sorted(built) == ["AutoencoderKL", "CLIPTextModel", "UNet2DConditionModel"]


def test_a_part_is_on_the_device_once_until_it_takes_turns(parts: dict[str, dict[str, Part]]) -> None:
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
    parts: dict[str, dict[str, Part]], built: list[str]
) -> None:
    shelves = apart(device=1)
    for name in ("tiny", "tiny-flat", "tiny"):
        with used(shelves, parts[name]) as live:
            networks = {part: live(part) for part in parts[name]}
            assert {part: live(part) for part in parts[name]} == networks
            for part, network in networks.items():
                assert_holds(network, parts[name][part])
    assert len(built) == 3


def test_the_devices_budget_holds_beside_its_live_networks(parts: dict[str, dict[str, Part]]) -> None:
    one, other = parts.values()
    budget = total(one) + one["unet"].bytes + 1_000
    shelves = apart(device=budget)
    for model in (one, other, one, other, one):
        with used(shelves, model) as live:
            assert_holds(live("unet"), model["unet"])
            live("vae"), live("text_encoder")
            assert shelves._near.bytes <= budget


def test_what_no_shelf_takes_is_used_as_it_arrives(parts: dict[str, dict[str, Part]]) -> None:
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


def test_what_is_lifted_ahead_of_its_use_is_there_and_what_is_in_use_stays(parts: dict[str, dict[str, Part]]) -> None:
    shelves, (one, other) = apart(), parts.values()
    with used(shelves, one) as live:
        network = live("unet")
        shelves.keep(other.values(), seconds=1.0)
        shelves.lift(part.label for part in other.values())
        assert near(shelves, other["unet"])
        assert_holds(network, one["unet"])
    with used(shelves, other) as live:
        assert_holds(live("unet"), other["unet"])


def test_freeing_leaves_what_is_to_be_kept_and_builds_nothing(
    parts: dict[str, dict[str, Part]], built: list[str]
) -> None:
    shelves, (one, other) = apart(), parts.values()
    for model in (one, other):
        with used(shelves, model) as live:
            live("unet"), live("vae")
    before = list(built)
    shelves.free(keep=[part.label for part in other.values()])
    assert near(shelves, other["unet"])
    assert not near(shelves, one["unet"])
    shelves.free()
    shelves.free(keep=[part.label for part in one.values()])
    assert shelves._near.bytes == 0
    assert built == before
    with used(shelves, one) as live:
        assert_holds(live("unet"), one["unet"])


def test_a_use_counts_once_however_often_the_network_is_asked_for(parts: dict[str, dict[str, Part]]) -> None:
    shelves, one = Shelves(torch.device("cpu"), device_bytes=ROOMY, host_bytes=0), parts["tiny"]
    for _ in range(3):
        with used(shelves, one) as live:
            for _ in range(5):
                live("unet")
    kept = shelves._near._kept
    assert {kept[part.label.digest].uses for part in one.values()} == {4}, "arriving, and three times"
