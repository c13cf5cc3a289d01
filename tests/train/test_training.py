"""Training runs on a small corpus of waves: they learn, resume exactly and guard their files."""

from __future__ import annotations

import csv
import dataclasses
import math
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import CliRunner

from laglite.errors import InputError
from laglite.spec import ModelSpec
from laglite_train.checkpoint import load_checkpoint
from laglite_train.cli import train as command
from laglite_train.config import OptimiserConfig, RunConfig, TrainConfig
from laglite_train.lightning_module import ForecastModule
from laglite_train.training import train
from laglite_train.windows import SamplingConfig

STEPS = 5
AMPLITUDE = 5.0
SPEC = ModelSpec(
    2, 2, 4, 8, (0, 1, 2, 5), scaling="iqr", history="carry", context_length=8,
    max_context_length=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hourly sine waves of period 6 with a little noise, one file in a folder."""
    random, hours = np.random.default_rng(0), np.arange(200)
    rows = [
        {
            "item_id": f"wave{k}",
            "start": datetime(2024, 1, 1),
            "freq": "h",
            "target": 10
            + AMPLITUDE * np.sin(2 * np.pi * (hours + k) / 6)
            + random.normal(scale=0.1, size=200),
        }
        for k in range(4)
    ]
    folder = tmp_path_factory.mktemp("corpus")
    pq.write_table(pa.Table.from_pylist(rows), folder / "waves.parquet")
    return folder


def config(data: Path, output: Path, epochs: int = 2, steps: int = STEPS) -> TrainConfig:
    return TrainConfig(
        SPEC,
        (str(data),),
        str(output),
        SamplingConfig(horizon=6, context_lengths=(8,)),
        OptimiserConfig(learning_rate=1e-2, warmup_steps=5),
        RunConfig(
            epochs=epochs, steps_per_epoch=steps, batch_size=16, threads=1, validation_windows=4
        ),
    )


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, error: BaseException) -> None:
    """Let `steps` training steps pass, and raise `error` at the next."""
    taken: list[int] = []
    step = ForecastModule.training_step

    def counted(self: ForecastModule, *arguments: Any) -> torch.Tensor:
        taken.append(len(taken))
        if len(taken) > steps:
            raise error
        return step(self, *arguments)

    monkeypatch.setattr(ForecastModule, "training_step", counted)


def contents(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


@pytest.fixture(scope="module")
def whole_run(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of two epochs."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert train(config(waves, output), resume=False, progress=False) == output / "best.ckpt"
    return output


def test_training_lowers_the_validation_loss_below_what_the_values_alone_allow(
    waves: Path, tmp_path: Path
) -> None:
    """A normal distribution fitted to a sine loses log(std sqrt(2 pi e)) for each value."""
    best = train(config(waves, tmp_path, epochs=6, steps=20), resume=False, progress=False)
    with (tmp_path / "logs" / "version_0" / "metrics.csv").open() as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file) if row["val_loss"]]
    assert len(losses) == 6
    assert min(losses) < losses[0] - 0.5
    assert min(losses) < math.log(AMPLITUDE / math.sqrt(2) * math.sqrt(2 * math.pi * math.e)) - 1.5
    kept = next(iter(contents(best)["callbacks"].values()))
    assert float(kept["best_model_score"]) == pytest.approx(min(losses), rel=1e-5)
    assert contents(best)["epoch"] == losses.index(min(losses))


def test_a_checkpoint_holds_plain_values_and_loads_as_a_model(whole_run: Path) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        assert contents(whole_run / name)["hyper_parameters"]["spec"] == SPEC.to_dict()
        checkpoint = load_checkpoint(whole_run / name)
        assert (checkpoint.origin, checkpoint.model.spec) == ("laglite", SPEC)
        assert checkpoint.training["run"]["steps_per_epoch"] == STEPS
        assert [data["series"] for data in checkpoint.training["data"]] == [4]
        state = contents(whole_run / name)["state_dict"]
        for key, tensor in checkpoint.model.state_dict().items():
            torch.testing.assert_close(tensor, state[f"model.{key}"], rtol=0, atol=0)


@pytest.mark.parametrize("extra", [0, 3], ids=["at its end", "midway through the next"])
def test_a_run_stopped_after_an_epoch_and_resumed_is_the_uninterrupted_run(
    waves: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: int
) -> None:
    settings = config(waves, tmp_path)
    with monkeypatch.context() as patch:
        stop_after(patch, STEPS + extra, RuntimeError("power cut"))
        with pytest.raises(RuntimeError, match="power cut"):
            train(settings, resume=False, progress=False)
    stopped = contents(tmp_path / "last.ckpt")
    assert stopped["global_step"] == STEPS
    best = train(settings, resume=True, progress=False)
    assert best == tmp_path / "best.ckpt"
    for name in ("best.ckpt", "last.ckpt"):
        resumed, whole = contents(tmp_path / name), contents(whole_run / name)
        assert resumed["global_step"] == whole["global_step"]
        assert resumed["state_dict"].keys() == whole["state_dict"].keys()
        for key, tensor in whole["state_dict"].items():
            torch.testing.assert_close(resumed["state_dict"][key], tensor, rtol=0, atol=1e-6)
    moved = contents(tmp_path / "last.ckpt")["state_dict"]
    assert any(not torch.equal(moved[key], w) for key, w in stopped["state_dict"].items())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    waves: Path, whole_run: Path, tmp_path: Path
) -> None:
    settings = config(waves, tmp_path)
    other = dataclasses.replace(
        settings, output=str(tmp_path / "other"), run=dataclasses.replace(settings.run, seed=1)
    )
    wanted = contents(whole_run / "last.ckpt")["state_dict"]
    for choice, equal in ((settings, True), (other, False)):
        train(choice, resume=False, progress=False)
        got = contents(Path(choice.output) / "last.ckpt")["state_dict"]
        name = "model.transformer.wte.weight"
        assert torch.allclose(got[name], wanted[name], rtol=0, atol=1e-6) == equal


def test_a_run_is_not_overwritten_without_resume(waves: Path, whole_run: Path) -> None:
    before = (whole_run / "last.ckpt").read_bytes()
    with pytest.raises(InputError, match=r"last\.ckpt exists: add --resume"):
        train(config(waves, whole_run), resume=False, progress=False)
    assert (whole_run / "last.ckpt").read_bytes() == before


def test_there_must_be_a_run_to_resume(waves: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"last\.ckpt: there is no run to resume"):
        train(config(waves, tmp_path / "none"), resume=True, progress=False)
    assert not (tmp_path / "none").exists()


def test_data_that_cannot_be_read_stop_a_run_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such file or folder"):
        train(config(tmp_path / "none", tmp_path / "run"), resume=False, progress=False)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def keep_interrupt_handler() -> Any:
    """Lightning ignores further interrupts once it has seen one."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def run_command(waves: Path, tmp_path: Path) -> Callable[..., Any]:
    """`laglite train` with the settings above, into `run` under tmp_path."""
    settings = dataclasses.asdict(config(waves, tmp_path / "elsewhere"))
    settings["model"]["lags"] = list(SPEC.lags)
    settings["sampling"]["context_lengths"] = [8]
    settings["data"] = ["nowhere"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    options = [str(tmp_path / "run.yaml"), "--data", str(waves), "--output", str(tmp_path / "run")]

    def invoke(*more: str) -> Any:
        return CliRunner().invoke(command, [*options, *more])

    return invoke


def test_the_command_prints_the_best_checkpoint(
    run_command: Callable[..., Any], tmp_path: Path
) -> None:
    result = run_command()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(tmp_path / "run" / "best.ckpt")
    assert f"training {SPEC.num_parameters:,} weights for 10 steps" in result.stderr


@pytest.mark.usefixtures("keep_interrupt_handler")
def test_an_interrupted_command_says_how_to_go_on_and_does(
    run_command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, STEPS, KeyboardInterrupt())
        stopped = run_command()
    assert stopped.exit_code == 1
    resumed = run_command("--resume")
    assert resumed.exit_code == 0
    assert contents(tmp_path / "run" / "last.ckpt")["global_step"] == 2 * STEPS
    assert "go on with --resume" in stopped.stderr
