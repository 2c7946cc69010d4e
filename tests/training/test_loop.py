"""The optimisation loop: how far along a stage is, by its steps or by its time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from training.loop import Draw, Group, Loop, kernels
from training.recipe import Stage
from training.work import Work


def loop_of(stage: Stage, folder: Path, name: str = "test") -> Loop:
    weight = nn.Parameter(torch.ones(3))
    return Loop(name, stage, [Group(parameters=(weight,))], Work(folder), seed=1)


def test_a_stage_is_over_when_its_steps_are_or_its_time() -> None:
    stage = Stage(steps=100, batch=1, rate=1e-3, limit_s=10.0)
    assert stage.progress(25, 1.0) == 0.25
    assert stage.progress(25, 5.0) == 0.5
    assert stage.progress(100, 1.0) == stage.progress(1, 99.0) == 1.0
    assert Stage(steps=100, batch=1, rate=1e-3).progress(50, 1e9) == 0.5


def test_a_machine_that_is_too_slow_does_fewer_steps_and_ends_at_the_same_rate(tmp_path: Path) -> None:
    loop = loop_of(Stage(steps=10**9, batch=1, rate=1.0, warmup=1, limit_s=0.2), tmp_path)
    loop.run(lambda draw: loop.parameters[0].square().sum())
    assert 0 < loop.step < 10**9
    assert loop.rate() == pytest.approx(0.01, abs=1e-3)
    resumed = loop_of(loop.stage, tmp_path)
    assert (resumed.step, resumed.progress) == (loop.step, 1.0)


def test_without_a_limit_all_steps_are_done(tmp_path: Path) -> None:
    loop = loop_of(Stage(steps=30, batch=1, rate=1e-2), tmp_path)
    loop.run(lambda draw: loop.parameters[0].square().sum())
    assert loop.step == 30


def test_one_is_told_how_many_steps_were_done_in_what_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop_of(Stage(steps=30, batch=1, rate=1e-2), tmp_path).run(constant)
    assert "test: 30 of 30 steps in 0:00:0" in capsys.readouterr().out


def test_the_bar_counts_steps_or_time_whichever_ends_the_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop_of(Stage(steps=40, batch=1, rate=1e-2), tmp_path).run(constant)
    assert re.search(r"test:  50%.* 20 of 40 steps, loss 3\.0", capsys.readouterr().err)
    loop_of(Stage(steps=10**9, batch=1, rate=1e-2, limit_s=0.3), tmp_path).run(constant)
    assert re.search(r"test: 100%.* of 1,000,000,000 steps, loss 3\.0", capsys.readouterr().err)


def test_what_a_base_was_for_goes_when_that_trains_on_and_not_before(tmp_path: Path) -> None:
    work = Work(tmp_path)
    for steps, kept in ((30, True), (31, False)):
        loop_of(Stage(steps=30, batch=1, rate=1e-2), tmp_path, "base").run(constant)
        work.ways.touch()
        loop_of(Stage(steps=steps, batch=1, rate=1e-2), tmp_path, "base").run(constant)
        assert work.ways.exists() is kept


def constant(draw: Draw) -> torch.Tensor:
    """A loss that no step changes."""
    return torch.full((), 3.0, requires_grad=True).clone()


Ending = Callable[[torch.Tensor], torch.Tensor]


def loss_that_ends(loop: Loop, at: int, ending: Ending) -> Callable[[Draw], torch.Tensor]:
    def loss_of(draw: Draw) -> torch.Tensor:
        weight = loop.parameters[0]
        return ending(weight) if draw.step == at else weight.square().sum()

    return loss_of


@pytest.mark.parametrize("at", [32, 49], ids=["between two looks", "in the last step"])
@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda weight: weight.sum() * math.nan, id="not a number"),
        pytest.param(lambda weight: weight.sum() / 0.0, id="infinite"),
        pytest.param(lambda weight: (weight * 0).sqrt().sum(), id="of infinite slope"),
    ],
)
def test_when_training_diverges_the_last_checkpoint_is_kept(at: int, ending: Ending, tmp_path: Path) -> None:
    before = loop_of(Stage(steps=30, batch=1, rate=1e-2), tmp_path)
    before.run(lambda draw: before.parameters[0].square().sum())
    loop, shown = loop_of(Stage(steps=50, batch=1, rate=1e-2), tmp_path), []
    with pytest.raises(SystemExit, match=r"test: training diverged\. At step \d+ .* lower rate"):
        loop.run(loss_that_ends(loop, at, ending), lambda: shown.append(1))
    kept = loop_of(loop.stage, tmp_path)
    assert kept.step == 30
    assert all(tensor.isfinite().all() for tensor in (*kept.parameters, *kept.average))
    assert not shown, "nor is anything written or drawn"


def test_a_gpus_checkpoint_goes_on_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(steps=30, batch=1, rate=1e-2)
    loop = loop_of(stage, tmp_path)
    with monkeypatch.context() as on_a_gpu:
        on_a_gpu.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
        loop.optimizer.param_groups[0]["fused"] = True
        loop.run(lambda draw: loop.parameters[0].square().sum())
    resumed = loop_of(stage, tmp_path)
    state = resumed.optimizer.state[resumed.parameters[0]]
    assert resumed.step == 30
    assert resumed.optimizer.param_groups[0]["fused"] is None, "as on a processor"
    assert state["exp_avg"].device == resumed.parameters[0].device
    assert torch.equal(resumed.average[0], loop.parameters[0])


@pytest.mark.parametrize(("device", "fused"), [("cuda", True), ("cpu", None)])
def test_a_gpu_updates_all_parameters_at_once(device: str, fused: bool | None, tmp_path: Path) -> None:
    stage = Stage(steps=1, batch=1, rate=1e-2)
    with FakeTensorMode():
        weight = nn.Parameter(torch.ones(3, device=device))
        loop = Loop("test", stage, [Group(parameters=(weight,))], Work(tmp_path), seed=1)
    assert loop.optimizer.param_groups[0]["fused"] is fused


@pytest.mark.parametrize(("device", "tried_out"), [("cuda", True), ("cpu", False)])
def test_convolutions_are_tried_out_on_a_gpu_while_it_trains(device: str, tried_out: bool) -> None:
    with kernels(torch.device(device)):
        assert torch.backends.cudnn.benchmark is tried_out
    assert not torch.backends.cudnn.benchmark
