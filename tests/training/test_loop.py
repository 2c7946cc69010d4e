"""The optimisation loop: how far along a stage is, by its steps or by its time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from training.loop import Group, Loop, kernels
from training.recipe import Stage


def loop_of(stage: Stage, folder: Path) -> Loop:
    weight = nn.Parameter(torch.ones(3))
    return Loop("test", stage, [Group(parameters=(weight,))], folder / "checkpoint.pt", seed=1)


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
        loop = Loop("test", stage, [Group(parameters=(weight,))], tmp_path / "checkpoint.pt", seed=1)
    assert loop.optimizer.param_groups[0]["fused"] is fused


@pytest.mark.parametrize(("device", "tried_out"), [("cuda", True), ("cpu", False)])
def test_convolutions_are_tried_out_on_a_gpu_while_it_trains(device: str, tried_out: bool) -> None:
    with kernels(torch.device(device)):
        assert torch.backends.cudnn.benchmark is tried_out
    assert not torch.backends.cudnn.benchmark
