"""Models are fetched from the hub: only what they need, checked, gone on with after an interruption, and named last."""

from __future__ import annotations

import hashlib
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from inference.__main__ import main
from inference.catalog import Catalog
from inference.disk_space import spare_bytes
from inference.errors import InferenceError
from inference.hub import client
from inference.hub.downloads import pull
from inference.hub_errors import (
    CacheUnwritable,
    DownloadDamaged,
    DownloadInterrupted,
    HubBusy,
    HubRefused,
    HubUnreachable,
    NoRoom,
    NoSafetensors,
    NotOnHub,
    TokenRefused,
)
from inference.pictures.recipe import read_pixels
from tests import hub as hub_server
from tests.checkpoints import TinyModels, tiny_vae
from tests.hub import COMMIT, Hub

ROOT = Path(__file__).parents[3]
DISK_BYTES, SPARE_BYTES = 40 * 2**30, 2 * 2**30
"""A disk, and what stays free of it."""
UNET = "unet/diffusion_pytorch_model.safetensors"
HEAD = 'family = "emoji"\nsize = [64, 64]\nsides = [32, 128]\n'
CATALOG = f"""
default = "tiny"
[models.tiny]
{HEAD}kind = "native"
weights = {{ hub = "someone/tiny" }}
[models.with-unet]
{HEAD}kind = "native"
weights = {{ hub = "someone/base" }}
unet = {{ hub = "someone/tiny", file = "unet/config.json" }}
[models.base]
{HEAD}kind = "lora"
weights = {{ hub = "someone/base" }}
lcm_lora = {{ hub = "someone/lora" }}
[models.half]
{HEAD}kind = "native"
weights = {{ hub = "someone/tiny", variant = "fp16" }}
[models.old]
{HEAD}kind = "native"
weights = {{ hub = "someone/tiny", revision = "v9" }}
[adapters.flat]
family = "emoji"
weights = {{ hub = "someone/flat", file = "flat.safetensors" }}
"""


@pytest.fixture
def catalog(tiny_models: TinyModels, hub: Hub, tmp_path: Path) -> Catalog:
    """Models on the hub, none of them here."""
    hub.publish("someone/tiny", tiny_models.native)
    hub.publish("someone/base", tiny_models.base)
    hub.publish("someone/lora", tiny_models.lcm_lora.parent)
    hub.publish("someone/flat", tiny_models.kohya.parent, only=tiny_models.kohya.name)
    for junk in ("pytorch_model.bin", "model.safetensors", "unet/diffusion_pytorch_model.bin", "README.md"):
        hub.repositories["someone/tiny"][junk] = b"junk"
    for foreign in ("safety_checker/model.safetensors", "vae/sdxl_vae.safetensors"):
        hub.repositories["someone/tiny"][foreign] = b"junk"
    (tmp_path / "models.toml").write_text(CATALOG)
    return Catalog.load(tmp_path / "models.toml")


def fetch(catalog: Catalog, name: str = "tiny") -> list[tuple[int, int]]:
    """Download a model; returns what was told meanwhile."""
    told: list[tuple[int, int]] = []
    pull(catalog, name, lambda here, total: told.append((here, total)))
    return told


def refusal(catalog: Catalog, name: str = "tiny") -> object:
    with pytest.raises(InferenceError) as refused:
        fetch(catalog, name)
    assert catalog.missing(name)
    return refused.value.failure


def draw(catalog: Path, folder: Path) -> bytes:
    """The pixels that the default model draws."""
    order = ["draw", "a fox", "--seed", "7", "--device", "cpu", "--no-safety-check", "-o", str(folder)]
    assert main(["--catalog", str(catalog), *order]) == 0
    return read_pixels(next(folder.iterdir()))


def test_a_fetched_model_draws_what_its_folder_draws(catalog: Catalog, tiny_models: TinyModels, tmp_path: Path) -> None:
    fetch(catalog)
    assert draw(tmp_path / "models.toml", tmp_path / "a") == draw(tiny_models.catalog, tmp_path / "b")


def test_only_what_is_read_is_fetched_and_the_bytes_are_counted_to_the_last(catalog: Catalog, hub: Hub) -> None:
    told = fetch(catalog)
    folders = {name.partition("/")[0] for name in hub.files_asked()}
    assert folders == {"model_index.json", "scheduler", "tokenizer", "text_encoder", "unet", "vae"}
    assert not [name for name in hub.files_asked() if name.endswith((".bin", ".md", "sdxl_vae.safetensors"))]
    files = hub.repositories["someone/tiny"]
    assert told[-1] == (sum(len(files[name]) for name in set(hub.files_asked())),) * 2
    assert [here for here, _ in told] == sorted(here for here, _ in told)
    assert catalog.missing("tiny") == ()


def test_a_model_that_is_here_is_not_fetched_again(catalog: Catalog, hub: Hub) -> None:
    fetch(catalog)
    asked = len(hub.requests)
    assert fetch(catalog) == []
    assert len(hub.requests) == asked


def test_a_network_is_not_here_before_all_files_are_that_its_weights_are_split_over(
    catalog: Catalog, hub: Hub, tmp_path: Path
) -> None:
    """As other programs leave it that were interrupted: they give every file its name as soon as it has arrived."""
    fetch(catalog)
    [weights] = tmp_path.rglob(UNET)
    first = weights.rename(weights.with_stem(f"{weights.stem}-00001-of-00002"))
    assert [source.hub for source in catalog.missing("tiny")] == ["someone/tiny"]
    first.with_name(first.name.replace("00001", "00002", 1)).symlink_to(first)
    assert catalog.missing("tiny") == ()


def test_a_foreign_file_in_a_networks_folder_is_not_its_weights(catalog: Catalog, hub: Hub, tmp_path: Path) -> None:
    fetch(catalog)
    [weights] = tmp_path.rglob(UNET)
    weights.rename(weights.with_stem("sdxl_vae"))
    assert [source.hub for source in catalog.missing("tiny")] == ["someone/tiny"]


def test_of_a_part_that_comes_from_elsewhere_the_first_is_left_out(catalog: Catalog, hub: Hub) -> None:
    fetch(catalog, "with-unet")
    assert [asked.path for asked in hub.requests if "base/resolve" in asked.path and "unet" in asked.path] == []
    assert catalog.missing("with-unet") == ()
    assert [source.hub for source in catalog.missing("base")] == ["someone/base", "someone/lora"]
    fetch(catalog, "base")
    assert catalog.missing("base") == ()


PREVIEWS = '[previews]\nemoji = { hub = "someone/taesd" }\n'


def test_what_makes_previews_comes_with_a_model_and_also_later(catalog: Catalog, hub: Hub, tmp_path: Path) -> None:
    fetch(catalog)
    path = tmp_path / "models.toml"
    path.write_text(CATALOG + PREVIEWS, encoding="utf-8")
    tiny_vae().save_pretrained(tmp_path / "taesd")
    hub.publish("someone/taesd", tmp_path / "taesd")
    catalog = Catalog.load(path)
    assert catalog.missing("tiny") == ()
    assert main(["--catalog", str(path), "pull", "tiny"]) == 0
    assert catalog.missing_preview("tiny") is None
    assert main(["--catalog", str(path), "pull", "flat"]) == 0


def test_what_makes_previews_keeps_no_model_away(
    catalog: Catalog, hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(CATALOG + PREVIEWS, encoding="utf-8")
    catalog = Catalog.load(path)
    fetch(catalog)
    assert catalog.missing("tiny") == ()
    assert catalog.missing_preview("tiny") is not None
    assert "no previews while “tiny”" in caplog.text


LORAS = """
[adapters.{name}]
family = "emoji"
weights = {{ hub = "someone/loras", file = "{name}.safetensors" }}
"""
NEXT_COMMIT = "beef" + "0" * 36


@pytest.fixture
def loras(catalog: Catalog, hub: Hub, tmp_path: Path) -> Catalog:
    """Three styles of one repository, of which two are here."""
    path = tmp_path / "models.toml"
    path.write_text(CATALOG + "".join(LORAS.format(name=name) for name in "abc"), encoding="utf-8")
    flat = hub.repositories["someone/flat"]["flat.safetensors"]
    hub.repositories["someone/loras"] = {f"{name}.safetensors": flat + name.encode() for name in "ab"}
    catalog = Catalog.load(path)
    for name in "ab":
        fetch(catalog, name)
    hub.commit = NEXT_COMMIT
    hub.repositories["someone/loras"]["c.safetensors"] = flat + b"c"
    return catalog


def located(catalog: Catalog, name: str) -> Path | None:
    [entry] = [entry for entry in catalog.adapters(catalog.default.family) if entry.name == name]
    return entry.weights.locate()


def test_what_is_here_of_a_repository_stays_when_a_file_of_a_newer_commit_comes(loras: Catalog, hub: Hub) -> None:
    fetch(loras, "c")
    places = [located(loras, name) for name in "abc"]
    assert [place and place.parent.name for place in places] == [NEXT_COMMIT] * 3
    assert sorted(hub.files_asked()) == ["a.safetensors", "b.safetensors", "c.safetensors"]


def test_a_file_that_has_changed_upstream_is_not_taken_for_the_new_one_and_one_that_is_gone_stays(
    loras: Catalog, hub: Hub
) -> None:
    del hub.repositories["someone/loras"]["a.safetensors"]
    hub.repositories["someone/loras"]["b.safetensors"] += b"new"
    fetch(loras, "c")
    assert [located(loras, name) is not None for name in "abc"] == [True, False, True]
    fetch(loras, "b")
    changed = located(loras, "b")
    assert changed is not None
    assert changed.read_bytes() == hub.repositories["someone/loras"]["b.safetensors"]


def test_two_variants_of_a_repository_stay_here_whichever_comes_last(
    catalog: Catalog, hub: Hub, tmp_path: Path
) -> None:
    fetch(catalog)
    files = hub.repositories["someone/tiny"]
    for name in [name for name in files if name.endswith("model.safetensors") and "/" in name]:
        files[name.replace(".safetensors", ".fp16.safetensors")] = files[name] + b" " * 8
    files["scheduler/scheduler_config.json"] += b" "
    hub.commit, asked = NEXT_COMMIT, len(hub.requests)
    fetch(catalog, "half")
    assert (catalog.missing("tiny"), catalog.missing("half")) == ((), ())
    assert not [one.path for one in hub.requests[asked:] if one.path.endswith("model.safetensors")]
    folder = catalog["tiny"].weights.locate()
    assert folder is not None
    assert (folder / "scheduler" / "scheduler_config.json").read_bytes() == files["scheduler/scheduler_config.json"]
    assert draw(tmp_path / "models.toml", tmp_path / "pictures")


def test_a_lora_is_fetched_by_its_own_name(catalog: Catalog, hub: Hub) -> None:
    fetch(catalog, "flat")
    assert hub.files_asked() == ["flat.safetensors"]
    assert catalog.missing("flat") == ()


def test_a_broken_connection_is_taken_up_where_it_broke(catalog: Catalog, hub: Hub) -> None:
    hub.cuts[UNET] = [300_000, 300_000]
    fetch(catalog)
    assert len([asked.range for asked in hub.requests if asked.range]) == 2 * 2  # the hub, and where it sends one to
    assert sum(hub.sent.values()) < 1.5 * sum(len(hub.repositories["someone/tiny"][name]) for name in hub.sent)
    assert catalog.missing("tiny") == ()


def test_a_hub_that_is_busy_for_a_moment_is_asked_again(
    catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAUSE_S", 0)
    hub.busy = hub.busy_to_list = client.ATTEMPTS_IN_VAIN
    fetch(catalog)
    hub.busy = 100
    assert isinstance(refusal(catalog, "flat"), HubUnreachable)
    hub.busy, hub.busy_to_list = 0, 100
    assert isinstance(refusal(catalog, "flat"), HubUnreachable)
    assert hub.busy_to_list == 100 - client.ATTEMPTS_IN_VAIN - 1


def test_an_attempt_that_ended_in_vain_is_gone_on_with_by_the_next(
    catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAUSE_S", 0)
    hub.cuts[UNET] = [300_000, *[0] * (client.ATTEMPTS_IN_VAIN + 1)]
    assert isinstance(refusal(catalog), DownloadInterrupted)
    asked = len(hub.requests)
    told = fetch(catalog)
    assert told[0][0] >= 2**18
    assert [a.path.rpartition("/")[2] for a in hub.requests[asked:] if a.range] == [UNET.rpartition("/")[2]] * 2
    assert hub.sent[UNET] < 1.2 * len(hub.repositories["someone/tiny"][UNET])


def test_the_marker_gets_its_name_last(catalog: Catalog, hub: Hub, tmp_path: Path) -> None:
    hub.wrong.add(UNET)
    refusal(catalog)
    assert not (tmp_path / "home" / "hub" / "models--someone--tiny" / "snapshots").exists()
    hub.wrong.clear()
    fetch(catalog)
    assert (tmp_path / "home" / "hub" / "models--someone--tiny" / "snapshots" / COMMIT / "model_index.json").is_file()


@pytest.mark.parametrize("file", [UNET, "scheduler/scheduler_config.json"])
def test_a_file_with_another_hash_is_removed_and_named(catalog: Catalog, hub: Hub, tmp_path: Path, file: str) -> None:
    hub.wrong.add(file)
    assert refusal(catalog) == DownloadDamaged(name="tiny", file=f"someone/tiny/{file}")
    assert not list(tmp_path.rglob("*.incomplete"))
    hub.wrong.clear()
    fetch(catalog)
    assert hub.files_asked().count(file) == 2
    assert hub.files_asked().count("model_index.json") == 1


def test_a_private_model_is_fetched_with_a_token_alone(
    catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.private["someone/tiny"] = "mine"
    assert refusal(catalog) == HubRefused(name="tiny", page=f"{hub.url}/someone/tiny", with_token=False)
    monkeypatch.setenv("HF_TOKEN", "another")
    assert refusal(catalog) == NotOnHub(name="tiny", what="someone/tiny", host=hub.url.removeprefix("http://"))
    monkeypatch.setenv("HF_TOKEN", "mine")
    fetch(catalog)
    assert {asked.token for asked in hub.requests if asked.path.startswith("/cdn/")} == {None}


def test_a_token_that_the_hub_does_not_know_is_told(
    catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub then refuses public models, too."""
    hub.expired.add("old")
    monkeypatch.setenv("HF_TOKEN", "old")
    failure = refusal(catalog)
    assert failure == TokenRefused(name="tiny", host=hub.url.removeprefix("http://"))
    assert "it may have expired" in str(InferenceError(failure))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [({"Retry-After": "300"}, 300), ({"RateLimit": '"api";r=0;t=90'}, 90), ({"Retry-After": "0"}, None)],
)
def test_a_hub_that_wants_a_pause_gets_it(
    catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch, header: dict[str, str], seconds: float | None
) -> None:
    monkeypatch.setattr(client, "PAUSE_S", 0)
    hub.pause = header
    failure = refusal(catalog)
    assert failure == HubBusy(name="tiny", host=hub.url.removeprefix("http://"), seconds=seconds)
    assert f"Try again in {f'{seconds} s' if seconds else 'a few minutes'}" in str(InferenceError(failure))
    assert len(hub.requests) == (1 if seconds else 1 + client.ATTEMPTS_IN_VAIN)


def test_a_short_pause_is_waited_for(catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        hub.pause = {}

    monkeypatch.setattr(client.time, "sleep", sleep)
    hub.pause = {"Retry-After": "7"}
    fetch(catalog)
    assert waited == [7]


def test_a_page_in_place_of_an_answer_is_told(catalog: Catalog, hub: Hub) -> None:
    hub.portal = True
    failure = refusal(catalog)
    assert isinstance(failure, HubUnreachable)
    assert failure.reason.startswith("JSONDecodeError: ")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="this system has no folder that nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_told(
    catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "hub").symlink_to("/sys")
    failure = refusal(catalog)
    assert isinstance(failure, CacheUnwritable)
    assert failure.path == str(tmp_path / "home" / "hub")
    assert "`HF_HOME`" in str(InferenceError(failure))


@pytest.mark.parametrize("token", [None, "another"])
def test_a_gated_model_asks_for_its_licence(
    catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    hub.gated["someone/tiny"] = "mine"
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    failure = refusal(catalog)
    assert failure == HubRefused(name="tiny", page=f"{hub.url}/someone/tiny", with_token=token is not None)
    assert "Accept the licence" in str(InferenceError(failure))


def test_what_the_hub_does_not_have_is_named(catalog: Catalog, hub: Hub) -> None:
    host = hub.url.removeprefix("http://")
    assert refusal(catalog, "old") == NotOnHub(name="old", what="someone/tiny (v9)", host=host)
    del hub.repositories["someone/flat"]["flat.safetensors"]
    hub.repositories["someone/flat"]["flat.ckpt"] = b"pickle"
    assert refusal(catalog, "flat") == NoSafetensors(
        name="flat", where="someone/flat", variant=None, there=("flat.ckpt",)
    )
    del hub.repositories["someone/tiny"]["model_index.json"]
    assert refusal(catalog) == NotOnHub(name="tiny", what="someone/tiny/model_index.json (main)", host=host)


def test_where_there_are_only_pickles_it_says_what_there_is(catalog: Catalog, hub: Hub) -> None:
    failure = refusal(catalog, "half")
    assert isinstance(failure, NoSafetensors)
    assert (failure.where, failure.variant) == ("someone/tiny/text_encoder", "fp16")
    del hub.repositories["someone/tiny"][UNET]
    failure = refusal(catalog)
    assert isinstance(failure, NoSafetensors)
    assert failure.there == ("diffusion_pytorch_model.bin",)


def test_without_a_network_it_says_whom_it_asked_and_what_to_do(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(client, "PAUSE_S", 0)
    hub_server.use(monkeypatch, url="http://127.0.0.1:9", home=tmp_path)
    failure = refusal(catalog)
    assert isinstance(failure, HubUnreachable)
    assert failure.host == "127.0.0.1:9"
    assert "python -m inference pull tiny" in str(InferenceError(failure))


def test_where_people_forbid_the_network_it_says_so_at_once(
    catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(client, "PAUSE_S", math.inf)  # sleeping for so long is an error
    failure = refusal(catalog)
    assert isinstance(failure, HubUnreachable)
    assert failure.reason == "HF_HUB_OFFLINE"
    assert hub.requests == []


def test_a_full_disk_is_told_before_anything_is_fetched(
    catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000
        total = DISK_BYTES

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    failure = refusal(catalog)
    assert isinstance(failure, NoRoom)
    assert (failure.free_bytes, failure.spare_bytes) == (1000, SPARE_BYTES)
    assert failure.needed_bytes > 1_000_000
    assert hub.files_asked() == ["model_index.json"]


def test_a_download_gives_up_before_it_and_others_have_filled_the_disk(
    catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each alone would fit. What has arrived is kept."""

    class Usage:
        total = DISK_BYTES

        @property
        def free(self) -> int:
            return SPARE_BYTES if UNET in hub.files_asked() else DISK_BYTES

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage())
    failure = refusal(catalog)
    assert isinstance(failure, NoRoom)
    assert failure.free_bytes == SPARE_BYTES
    assert any(part.stat().st_size for part in tmp_path.rglob("*.incomplete"))


def test_what_another_download_has_brought_meanwhile_takes_no_room_twice(
    catalog: Catalog, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The disk has room for the model once, and not for a byte more."""
    vae = hub.repositories["someone/tiny"]["vae/diffusion_pytorch_model.safetensors"]
    blobs = tmp_path / "home" / "hub" / "models--someone--tiny" / "blobs"
    needed = fetch(catalog)[-1][1]
    shutil.rmtree(blobs.parent)

    class Usage:
        total = DISK_BYTES

        @property
        def free(self) -> int:
            return SPARE_BYTES + needed - sum(blob.stat().st_size for blob in blobs.glob("*"))

    def another_brings_the_vae(here: int, total: int) -> None:
        (blobs / hashlib.sha256(vae).hexdigest()).write_bytes(vae)

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage())
    pull(catalog, "tiny", another_brings_the_vae)
    assert catalog.missing("tiny") == ()


@pytest.mark.parametrize(("disk_gib", "spare_gib"), [(1000, 2), (8, 2), (4, 1), (0, 0)])
def test_downloads_leave_some_of_the_disk_to_others_and_never_want_all_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, disk_gib: int, spare_gib: int
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=disk_gib * 2**30))
    assert spare_bytes(tmp_path) == spare_gib * 2**30


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
@pytest.mark.parametrize("file", [UNET, "model_index.json"])
def test_a_disk_that_fills_meanwhile_is_told_with_what_is_still_needed(
    catalog: Catalog, hub: Hub, tmp_path: Path, file: str
) -> None:
    contents = hub.repositories["someone/tiny"][file]
    digest = hashlib.sha256(contents) if file == UNET else hashlib.sha1(b"blob %d\0" % len(contents) + contents)
    part = tmp_path / "home" / "hub" / "models--someone--tiny" / "blobs" / f"{digest.hexdigest()}.incomplete"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    failure = refusal(catalog)
    assert isinstance(failure, NoRoom)
    assert (failure.path, failure.free_bytes) == (str(tmp_path / "home" / "hub"), 0)
    assert failure.needed_bytes >= len(contents)
    assert "Only 0 B is free there, and" in str(InferenceError(failure))
    part.unlink()
    fetch(catalog)


# -- the command -------------------------------------------------------------------------------------------------------


def command(catalog: Path, *arguments: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-X", "faulthandler", "-m", "inference", "--catalog", str(catalog), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed_ctrl_c)


def heed_ctrl_c() -> None:
    """Where tests run in the background, it is ignored, by all their children as well."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.usefixtures("catalog")
def test_the_command_says_what_came_of_it(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    fetched = command(path, "pull", "tiny", "flat")
    out, err = fetched.communicate(timeout=60)
    assert (fetched.returncode, out) == (0, "tiny is on this machine now.\nflat is on this machine now.\n")
    assert "tiny:" in err
    again = command(path, "pull", "tiny")
    assert again.communicate(timeout=60) == ("tiny is on this machine already.\n", "")
    hub.wrong.add("pytorch_lora_weights.safetensors")
    failed = command(path, "pull", "base")
    out, err = failed.communicate(timeout=60)
    assert failed.returncode == 2
    assert err.splitlines()[-1].startswith("“base” could not be downloaded: someone/lora/pytorch_lora_weights.safetens")
    hub.wrong.clear()
    named = command(path, "pull", "nothing", "TINY", "base")
    out, err = named.communicate(timeout=60)
    assert (named.returncode, out) == (2, "tiny is on this machine already.\nbase is on this machine now.\n")
    assert "There is no model “nothing”." in err
    shutil.rmtree(tmp_path / "home" / "hub" / "models--someone--base")
    listed = command(path, "models")
    assert "“python -m inference pull base” fetches it" in listed.communicate(timeout=60)[0]


@pytest.mark.usefixtures("catalog")
def test_two_downloads_of_the_same_model_share_what_arrives(hub: Hub, tmp_path: Path) -> None:
    both = [command(tmp_path / "models.toml", "pull", "tiny") for _ in range(2)]
    for one in both:
        one.communicate(timeout=60)
    assert [one.returncode for one in both] == [0, 0]
    assert hub.sent[UNET] == len(hub.repositories["someone/tiny"][UNET])


@pytest.mark.usefixtures("catalog")
def test_ctrl_c_keeps_what_has_arrived_and_says_so(hub: Hub, tmp_path: Path) -> None:
    hub.hold_after = 600_000
    path = tmp_path / "models.toml"
    fetching = command(path, "pull", "tiny")
    wait_until(lambda: any(part.stat().st_size >= 2**18 for part in tmp_path.rglob("*.incomplete")))
    fetching.send_signal(signal.SIGINT)
    err = last_words(fetching)
    assert fetching.returncode == 130
    assert "“python -m inference pull tiny” resumes the download." in err
    hub.go.set()
    again = command(path, "pull", "tiny")
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert any(asked.range for asked in hub.requests)


def last_words(process: subprocess.Popen[str]) -> str:
    """What it says on stderr until it ends; where it does not, what it is doing instead."""
    try:
        return process.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail(process.communicate()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
