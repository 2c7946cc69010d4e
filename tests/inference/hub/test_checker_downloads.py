"""A model is downloaded together with what checks its pictures, unless nobody wants them checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inference.__main__ import main
from inference.catalog import Catalog
from inference.contract import ImageRequest
from inference.errors import CheckerMissing
from inference.hub.downloads import pull
from inference.hub.fetching import Fetching
from tests.checkers import save_classifier, save_own_checker
from tests.checkpoints import TinyModels
from tests.hub import Hub

HEAD = 'family = "emoji"\nkind = "native"\nsize = [64, 64]\nsides = [32, 128]\n'
CATALOG = f"""
default = "tiny"
[models.tiny]
{HEAD}weights = {{ hub = "someone/tiny" }}
[models.own]
{HEAD}weights = {{ hub = "someone/own" }}
safety = "own"
[models.harmless]
{HEAD}weights = {{ hub = "someone/tiny" }}
harmless = true
[safety]
weights = {{ hub = "someone/classifier" }}
"""


@pytest.fixture
def catalog(tiny_models: TinyModels, hub: Hub, tmp_path: Path) -> Catalog:
    """Models on the hub, none of them here, and what checks them."""
    hub.publish("someone/tiny", tiny_models.native)
    own = tmp_path / "own"
    shutil.copytree(tiny_models.native, own)
    save_own_checker(own)
    hub.publish("someone/own", own)
    hub.publish("someone/classifier", save_classifier(tmp_path / "classifier"))
    (tmp_path / "models.toml").write_text(CATALOG)
    return Catalog.load(tmp_path / "models.toml")


def fetch(catalog: Catalog, name: str, *, checked: bool = True) -> None:
    pull(catalog, name, lambda here, total: None, checked=checked)


@pytest.mark.parametrize("name", ["tiny", "own"])
def test_a_fetched_model_is_drawn_with_and_checked(catalog: Catalog, tmp_path: Path, name: str) -> None:
    fetch(catalog, name)
    assert catalog.missing_checker(catalog[name]) is None
    order = ["draw", "a fox", "--model", name, "--device", "cpu", "-o", str(tmp_path / "out")]
    assert main(["--catalog", str(tmp_path / "models.toml"), *order]) == 0


def test_the_classifier_is_fetched_by_its_own_name(catalog: Catalog, tmp_path: Path) -> None:
    fetch(catalog, "tiny", checked=False)
    missing = catalog.missing_checker(catalog["tiny"])
    assert missing == CheckerMissing(model="tiny", where="someone/classifier on the Hugging Face hub", pull="safety")
    assert main(["--catalog", str(tmp_path / "models.toml"), "pull", "safety"]) == 0
    assert catalog.missing_checker(catalog["tiny"]) is None


@pytest.mark.parametrize("name", ["tiny", "own"])
def test_who_waives_the_check_downloads_no_checker(catalog: Catalog, hub: Hub, name: str) -> None:
    fetch(catalog, name, checked=False)
    assert catalog.on_disk(catalog[name])
    assert not any("safety_checker" in file or "preprocessor" in file for file in hub.files_asked())


def test_a_harmless_model_comes_alone(catalog: Catalog) -> None:
    fetch(catalog, "harmless")
    assert catalog.missing("harmless") == ()
    assert [source.hub for source in catalog.missing("tiny")] == ["someone/classifier"]


@pytest.mark.parametrize(("checked", "needed"), [(True, ("tiny",)), (False, ())])
def test_an_order_waits_for_a_checker_only_where_it_is_wanted(
    catalog: Catalog, tmp_path: Path, checked: bool, needed: tuple[str, ...]
) -> None:
    fetch(catalog, "harmless")  # the same weights
    fetching = Fetching(catalog=catalog, catalog_path=tmp_path / "models.toml", checked=checked)
    request = ImageRequest(prompt="a fox", model="tiny", seed=7, count=1, steps=2, guidance=8.0, width=64, height=64)
    assert fetching.needs(request) == needed
