"""A stopped and resumed run is the uninterrupted one, to the last bit; another run is refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from laglite.errors import CheckpointError, InputError, LagliteWarning
from laglite_train.training import train
from tests.train.small_runs import (
    EVERYTHING,
    STEPS,
    contents,
    logged,
    small_config,
    stopping_after,
)

EPOCHS = 4
SETTINGS: dict[str, Any] = {"epochs": EPOCHS, "name": "muon", "workers": 1, **EVERYTHING}


@pytest.fixture(scope="module")
def whole_run(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of everything: Muon, averages, augmentation, synthetic series."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    train(small_config(waves, output, **SETTINGS), resume=False, progress=False)
    return output


def assert_same(found: Any, wanted: Any, place: str) -> None:
    """Equal to the last bit, through all containers of a checkpoint."""
    if isinstance(wanted, torch.Tensor):
        assert torch.equal(found, wanted), place
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), place
        for key, value in wanted.items():
            assert_same(found[key], value, f"{place}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), place
        for index, value in enumerate(wanted):
            assert_same(found[index], value, f"{place}[{index}]")
    else:
        assert found == wanted, place


@pytest.mark.parametrize("extra", [0, 3], ids=["after an epoch", "in the middle of the next"])
def test_a_stopped_and_resumed_run_is_the_uninterrupted_run_to_the_last_bit(
    waves: Path, whole_run: Path, tmp_path: Path, extra: int
) -> None:
    config = small_config(waves, tmp_path / "run", **SETTINGS)
    output = Path(config.output)
    with stopping_after(2 * STEPS + extra, RuntimeError("power cut")), pytest.raises(RuntimeError):
        train(config, resume=False, progress=False)
    assert contents(output / "last.ckpt")["global_step"] == 2 * STEPS
    before = set(logged(output, "val_loss"))
    assert len(before) == 2
    assert train(config, resume=True, progress=False) == output / "best.ckpt"
    for column in ("val_loss", "val_loss/waves", "val_loss/swell"):
        assert logged(output, column) == logged(whole_run, column), column
    steps = logged(output, "train_loss")
    assert steps == {step: logged(whole_run, "train_loss")[step] for step in steps}
    assert len(steps) >= EPOCHS
    for name in ("best.ckpt", "last.ckpt"):
        found, wanted = contents(output / name), contents(whole_run / name)
        for key in ("epoch", "global_step", "state_dict", "current_model_state",
                    "averaging_state", "optimizer_states", "lr_schedulers"):  # fmt: skip
            assert_same(found[key], wanted[key], f"{name}: {key}")


def test_a_run_that_was_moved_goes_on_and_knows_its_best(
    waves: Path, whole_run: Path, tmp_path: Path
) -> None:
    config = small_config(waves, tmp_path / "here", **SETTINGS)
    with stopping_after(2 * STEPS, RuntimeError("power cut")), pytest.raises(RuntimeError):
        train(config, resume=False, progress=False)
    output = tmp_path / "there"
    (tmp_path / "here").rename(output)
    best = train(dataclasses.replace(config, output=str(output)), resume=True, progress=False)
    assert best == output / "best.ckpt"
    for found, wanted in zip(best_of(output), best_of(whole_run), strict=True):
        assert found == wanted
    assert not (tmp_path / "here").exists()


def best_of(output: Path) -> tuple[float, str, float]:
    """Best loss and its file's name as the last checkpoint knows them, and the file's own loss."""
    states = [contents(output / name)["callbacks"] for name in ("last.ckpt", "best.ckpt")]
    last, best = (
        next(state for state in callbacks.values() if state.get("monitor") == "val_loss")
        for callbacks in states
    )
    path = Path(last["best_model_path"])
    assert path.parent == output
    return float(last["best_model_score"]), path.name, float(best["best_model_score"])


def test_the_same_seed_gives_the_same_run_without_workers_and_another_seed_another(
    waves: Path, whole_run: Path, tmp_path: Path
) -> None:
    wanted = contents(whole_run / "last.ckpt")["state_dict"]["model.transformer.wte.weight"]
    for seed in (0, 1):
        settings = {**SETTINGS, "workers": 0, "seed": seed}
        output = tmp_path / str(seed)
        train(small_config(waves, output, **settings), resume=False, progress=False)
        found = contents(output / "last.ckpt")["state_dict"]["model.transformer.wte.weight"]
        assert torch.equal(found, wanted) == (seed == 0)


def test_a_finished_run_stays_as_it_is(waves: Path, whole_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(whole_run, output)
    before = contents(output / "last.ckpt")["state_dict"]
    train(small_config(waves, output, **SETTINGS), resume=True, progress=False)
    assert_same(contents(output / "last.ckpt")["state_dict"], before, "state_dict")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "adamw"}, r"another optimiser.name \(muon then, adamw now\); undo the change"),
        ({"average": 0.0}, r"another optimiser.average \(0.9 then, 0.0 now\)"),
        ({"steps_per_epoch": 7}, r"another run.steps_per_epoch \(5 then, 7 now\)"),
    ],
)
def test_a_run_whose_state_would_not_fit_is_refused(
    waves: Path, whole_run: Path, changes: dict[str, Any], message: str
) -> None:
    config = small_config(waves, whole_run, **{**SETTINGS, **changes})
    with pytest.raises(InputError, match=rf"last\.ckpt cannot go on with {message}"):
        train(config, resume=True, progress=False)


def test_another_model_is_refused(waves: Path, whole_run: Path) -> None:
    config = small_config(waves, whole_run, **SETTINGS)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, num_layers=3))
    with pytest.raises(InputError, match=r"another model.num_layers \(2 then, 3 now\)"):
        train(config, resume=True, progress=False)


def test_what_changes_the_numbers_only_is_said(
    waves: Path, whole_run: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    shutil.copytree(whole_run, output)
    config = small_config(waves, output, **{**SETTINGS, "batch_size": 8, "epochs": EPOCHS + 1})
    with pytest.warns(LagliteWarning, match=r"another run.batch_size \(16 then, 8 now\), run.epo"):
        train(config, resume=True, progress=False)
    assert contents(output / "last.ckpt")["epoch"] == EPOCHS


def test_a_damaged_checkpoint_is_named(waves: Path, whole_run: Path, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes((whole_run / "last.ckpt").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"last\.ckpt: not a readable checkpoint"):
        train(small_config(waves, tmp_path, **SETTINGS), resume=True, progress=False)
