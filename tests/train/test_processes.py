"""Two processes train what one trains: started by Lightning, or by torchrun."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from laglite.errors import InputError
from laglite_train.config import RunConfig
from laglite_train.processes import plan_processes
from laglite_train.training import train
from tests.train.small_runs import (
    ROLLOUT,
    contents,
    logged,
    small_config,
    write_config,
)

TOLERANCE = 2e-5  # of weights after ten steps: float32 sums in another order


@pytest.fixture(scope="module")
def single(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("single")
    train(small_config(waves, output, rollout=ROLLOUT), resume=False, progress=False)
    return output


@pytest.mark.parametrize("starter", ["devices", "torchrun"])
def test_two_processes_give_the_losses_and_weights_of_one(
    waves: Path, single: Path, tmp_path: Path, starter: str
) -> None:
    output = tmp_path / "run"
    devices = 2 if starter == "devices" else 1
    config = small_config(waves, output, rollout=ROLLOUT, devices=devices, accelerator="cpu")
    train_command = ["-m", "laglite", "train", str(write_config(config, tmp_path / "a.yaml"))]
    if starter == "torchrun":
        train_command = [
            "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *train_command,
        ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *train_command], capture_output=True, text=True, timeout=500, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{output / 'best.ckpt'}\n"  # one process speaks
    assert done.stderr.count("weights for 10 steps") == 1
    assert sorted(path.name for path in output.iterdir()) == ["best.ckpt", "last.ckpt", "logs"]
    assert [path.name for path in (output / "logs").iterdir()] == ["version_0"]
    for column in ("train_loss", "train_rollout", "val_loss", "val_loss/waves", "val_loss/swell"):
        found, wanted = logged(output, column), logged(single, column)
        assert found.keys() == wanted.keys()
        assert list(found.values()) == pytest.approx(list(wanted.values()), rel=1e-4), column
    state, one = (contents(folder / "last.ckpt") for folder in (output, single))
    for name, tensor in one["current_model_state"].items():
        torch.testing.assert_close(
            state["current_model_state"][name], tensor, rtol=0, atol=TOLERANCE
        )


def test_torchruns_processes_count_and_must_divide_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two nodes of three processes, whatever the config says."""
    run = RunConfig(batch_size=12, devices=4, accelerator="cpu", threads=1)
    for name, value in {
        "TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    found = plan_processes(run)
    assert (found.devices, found.nodes, found.strategy) == (3, 2, "ddp")
    with pytest.raises(InputError, match="run.batch_size 8 does not divide among 6 processes"):
        plan_processes(RunConfig(batch_size=8, accelerator="cpu"))


def test_the_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert plan_processes(RunConfig(accelerator="cpu")).threads == 8
    assert plan_processes(RunConfig(accelerator="cpu", devices=4)).threads == 2
    assert plan_processes(RunConfig(accelerator="cpu", devices=16)).threads == 1
    assert plan_processes(RunConfig(accelerator="cpu", threads=3, devices=4)).threads == 3


def test_more_devices_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert plan_processes(RunConfig()).accelerator == "gpu"
    assert plan_processes(RunConfig(accelerator="cpu", devices=4)).accelerator == "cpu"
    with pytest.raises(InputError, match="run.devices is 4, but this machine has 2 GPUs"):
        plan_processes(RunConfig(devices=4))


def test_every_process_needs_a_window_to_roll_out(waves: Path, tmp_path: Path) -> None:
    rollout = dataclasses.replace(ROLLOUT, windows=1)
    config = small_config(waves, tmp_path / "run", rollout=rollout, devices=2, accelerator="cpu")
    with pytest.raises(InputError, match=r"rollout.windows 1 does not give each of 2 processes"):
        train(config, resume=False, progress=False)
    assert not (tmp_path / "run").exists()
