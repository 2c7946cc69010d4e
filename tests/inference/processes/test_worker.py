"""The real worker process with tiny checkpoints: pictures on disk, failures as data, no orphans."""

from __future__ import annotations

import asyncio
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from PIL import Image

from inference.contract import Failed, Finished, ImageRequest, Outcome, Phase, Retrying, Running
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.queue import FairQueue
from inference.dispatch.ticket import Ticket
from inference.errors import (
    CatalogUnreadable,
    CheckerMissing,
    DiskUnwritable,
    NumbersTooLarge,
    WeightsMissing,
    WeightsUnreadable,
    WorkerDied,
)
from inference.messages import Draw, JobSaved
from inference.pictures.recipe import Recipe, read_recipe
from inference.processes.handle import WorkerGone, WorkerMain, WorkerProcess, WorkerSpec, draw_for_parent
from tests.checkers import save_classifier
from tests.checkpoints import TinyModels
from tests.inference import sinners
from tests.inference.batches import batch, row

ROOT = Path(__file__).resolve().parents[3]


class Desk:
    """Orders from a real worker."""

    def __init__(self, dispatcher: Dispatcher, worker: WorkerProcess) -> None:
        self.dispatcher = dispatcher
        self.worker = worker

    def order(
        self, *, model: str = "tiny", seed: int = 7, count: int = 1, steps: int = 2, guidance: float = 8.0
    ) -> Ticket:
        request = ImageRequest(
            prompt="a red apple",
            model=model,
            seed=seed,
            count=count,
            steps=steps,
            guidance=guidance,
            width=64,
            height=64,
        )
        return self.dispatcher.submit(job_id=str(uuid.uuid4()), owner="ann", request=request)

    async def drawn(self, ticket: Ticket) -> Outcome:
        async with asyncio.timeout(120):
            events = [event async for event in ticket.events()]
        end = events[-1]
        assert isinstance(end, Outcome)
        return end


@asynccontextmanager
async def opened(models: Path, pictures: Path, main: WorkerMain = draw_for_parent) -> AsyncIterator[Desk]:
    spec = WorkerSpec(catalog_path=models, pictures_dir=pictures, device="cpu", precision="float32")
    worker = WorkerProcess(spec=spec, main=main)
    dispatcher = Dispatcher(workers=[worker], queue=FairQueue())
    draining = asyncio.create_task(dispatcher.run())
    try:
        yield Desk(dispatcher, worker)
    finally:
        draining.cancel()
        await asyncio.wait([draining])


async def test_pictures_lie_under_their_ids_with_their_recipe_and_come_out_the_same_again(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    async with opened(tiny_models.catalog, tmp_path) as desk:
        first = await desk.drawn(desk.order(count=2))
        again = await desk.drawn(desk.order(count=2))
        other = await desk.drawn(desk.order(count=2, seed=99))
    assert isinstance(first, Finished)
    assert isinstance(again, Finished)
    assert isinstance(other, Finished)
    hashes = [[picture.pixels_sha256 for picture in end.pictures] for end in (first, again, other)]
    assert hashes[0] == hashes[1]
    assert len({*hashes[0], *hashes[2]}) == 4
    for picture in first.pictures:
        path = tmp_path / f"{picture.id}.png"
        recipe = read_recipe(path)
        assert isinstance(recipe, Recipe)
        assert (recipe.seed, recipe.bucket, path.stat().st_size) == (picture.seed, 2, picture.bytes)
        with Image.open(path) as image:
            assert image.size == (64, 64)


async def test_a_failed_request_leaves_the_worker_alive(tiny_models: TinyModels, tmp_path: Path) -> None:
    models, pictures = tmp_path / "models", tmp_path / "pictures"
    shutil.copytree(tiny_models.folder, models)
    shutil.rmtree(models / "tiny")
    async with opened(models / "models.toml", pictures) as desk:
        missing = await desk.drawn(desk.order(model="tiny-lora"))
        pid = desk.worker.pid
        fine = await desk.drawn(desk.order())
        shutil.rmtree(pictures)
        pictures.write_text("a file in the way of the folder")
        unsaved = await desk.drawn(desk.order())
        assert desk.worker.pid == pid
    assert isinstance(missing, Failed)
    assert isinstance(missing.failure, WeightsMissing)
    assert isinstance(fine, Finished)
    assert isinstance(unsaved, Failed)
    assert isinstance(unsaved.failure, DiskUnwritable)


async def test_of_a_batch_only_the_order_fails_whose_numbers_are_none(tiny_models: TinyModels, tmp_path: Path) -> None:
    async with opened(tiny_models.catalog, tmp_path) as desk:
        tickets = [desk.order(guidance=guidance, count=2) for guidance in (8.0, math.inf)]
        fine, broken = [await desk.drawn(ticket) for ticket in tickets]
    assert broken == Failed(failure=NumbersTooLarge(model="tiny", precision="float32"))
    assert isinstance(fine, Finished)
    assert [picture.bucket for picture in fine.pictures] == [4, 4], "nothing was drawn again"
    assert len(list(tmp_path.glob("*.png"))) == 2


async def test_a_worker_whose_device_is_lost_ends_and_another_one_draws(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_models.folder, models)
    shutil.rmtree(models / "tiny")
    async with opened(models / "models.toml", tmp_path / "pictures", sinners.losing_its_device) as desk:
        fine = await desk.drawn(desk.order(model="tiny-flat"))
        pid = desk.worker.pid
        order = desk.order(model="tiny-lora")
        events = [event async for event in order.events()]
        again = await desk.drawn(desk.order(model="tiny-flat"))
        assert desk.worker.pid != pid
    assert isinstance(fine, Finished)
    assert any(isinstance(event, Retrying) for event in events)
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].failure, WorkerDied)
    assert isinstance(again, Finished)


async def test_a_damaged_model_is_marked_until_it_can_be_loaded(tiny_models: TinyModels, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_models.folder, models)
    weights = models / "tiny-lcm" / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])
    async with opened(models / "models.toml", tmp_path / "pictures") as desk:
        damaged = await desk.drawn(desk.order())
        pid = desk.worker.pid
        assert isinstance(damaged, Failed)
        assert desk.dispatcher.ailing == {"tiny": damaged.failure}
        assert isinstance(damaged.failure, WeightsUnreadable)
        assert isinstance(await desk.drawn(desk.order(model="tiny-lora")), Finished)
        weights.write_bytes(whole)
        assert isinstance(await desk.drawn(desk.order()), Finished)
        assert not desk.dispatcher.ailing
        assert desk.worker.pid == pid


async def test_a_damaged_model_that_is_brought_up_ahead_spoils_no_other_order(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_models.folder, models)
    weights = models / "tiny-lcm" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    async with opened(models / "models.toml", tmp_path / "pictures") as desk:
        tickets = [desk.order(model=model, steps=8) for model in ("tiny-lora", "tiny", "tiny-lora")]
        ends = [await desk.drawn(ticket) for ticket in tickets]
    assert [type(end) for end in ends] == [Finished, Failed, Finished]
    assert isinstance(ends[1], Failed)
    assert isinstance(ends[1].failure, WeightsUnreadable)


async def test_a_checker_that_is_missing_fails_its_models_orders_and_no_others(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_models.folder, models)
    catalog = (models / "models.toml").read_text(encoding="utf-8").replace("harmless = true\n", "", 1)
    (models / "models.toml").write_text(catalog + '[safety]\nweights = { path = "classifier" }\n', encoding="utf-8")
    async with opened(models / "models.toml", tmp_path / "pictures") as desk:
        missing = await desk.drawn(desk.order())
        pid = desk.worker.pid
        harmless = await desk.drawn(desk.order(model="tiny-flat"))
        save_classifier(models / "classifier", bias=20.0)
        checked = await desk.drawn(desk.order())
        assert desk.worker.pid == pid
    assert missing == Failed(failure=CheckerMissing(model="tiny", where=str(models / "classifier")))
    assert isinstance(harmless, Finished)
    assert [picture.explicit for picture in harmless.pictures] == [None]
    assert isinstance(checked, Finished)
    assert [picture.explicit for picture in checked.pictures] == [True]


async def test_a_worker_that_was_started_ahead_of_time_is_not_started_again(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    worker = WorkerProcess(spec=WorkerSpec(catalog_path=tiny_models.catalog, pictures_dir=tmp_path, device="cpu"))
    ready = await worker.start()
    pid = worker.pid
    assert (await worker.start(), worker.pid) == (ready, pid)
    await worker.kill()
    await worker.start()
    assert worker.pid != pid
    await worker.stop()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others give back what is freed at once")
async def test_an_idle_worker_gives_memory_back(tiny_models: TinyModels, tmp_path: Path) -> None:
    spec = WorkerSpec(catalog_path=tiny_models.catalog, pictures_dir=tmp_path, device="cpu", precision="float32")
    worker = WorkerProcess(spec=spec, main=sinners.hoarding)
    await worker.start()
    memory = psutil.Process(worker.pid).memory_info
    fresh = memory().rss
    for _ in range(2):
        worker.send(Draw(batch=batch(row(), model="tiny")))
        while not isinstance(await worker.receive(timeout_s=60), JobSaved):
            pass
        async with asyncio.timeout(30):
            while memory().rss > fresh + 200_000_000:  # noqa: ASYNC110 (the kernel tells nobody)
                await asyncio.sleep(0.05)
    await worker.stop()


async def test_a_worker_logs_as_much_as_it_is_told(
    tiny_models: TinyModels, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = WorkerSpec(catalog_path=tiny_models.catalog, pictures_dir=tmp_path, device="cpu", log_level="WARNING")
    worker = WorkerProcess(spec=spec, main=sinners.talkative)
    await worker.start()
    await worker.stop()
    said = capfd.readouterr().err
    assert "but it is warm" in said
    assert "nice to be here" not in said


async def test_a_worker_killed_while_it_draws_costs_one_retry_and_no_picture(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    async with opened(tiny_models.catalog, tmp_path) as desk:
        ticket = desk.order(steps=8, count=4)
        events = ticket.events()
        seen = []
        async with asyncio.timeout(120):
            async for event in events:
                seen.append(event)
                if isinstance(event, Running) and event.progress.phase is Phase.DRAWING and desk.worker.pid:
                    os.kill(desk.worker.pid, signal.SIGKILL)
                    break
            seen += [event async for event in events]
    assert any(isinstance(event, Retrying) for event in seen)
    assert isinstance(seen[-1], Finished)
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_a_killed_parent_leaves_no_orphan(tiny_models: TinyModels, tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from inference.processes.handle import WorkerProcess, WorkerSpec\n"
        "async def main():\n"
        "    spec = WorkerSpec(catalog_path=Path(sys.argv[1]), pictures_dir=Path(sys.argv[2]), device='cpu')\n"
        "    worker = WorkerProcess(spec=spec)\n"
        "    await worker.start()\n"
        "    print(worker.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    path = tmp_path / "parent.py"
    path.write_text(script)
    command = [sys.executable, str(path), str(tiny_models.catalog), str(tmp_path / "pictures")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=30)
    assert not alive or alive[0].status() == psutil.STATUS_ZOMBIE


async def test_a_worker_that_cannot_read_the_catalogue_says_so(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text("default = ")
    worker = WorkerProcess(spec=WorkerSpec(catalog_path=tmp_path / "models.toml", pictures_dir=tmp_path))
    with pytest.raises(WorkerGone) as gone:
        await worker.start()
    assert isinstance(gone.value.failure, CatalogUnreadable)
    assert str(tmp_path / "models.toml") in gone.value.failure.reason
