"""A run may begin with another's weights, if they are of its own network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from laglite.cli import main
from laglite.errors import CheckpointError, InputError
from laglite_train.checkpoint import load_checkpoint, save_checkpoint
from laglite_train.model import LagLlama
from laglite_train.training import train
from laglite_train.warm_start import begin_with
from tests.train.small_runs import SPEC, logged, small_config, write_config


@pytest.fixture(scope="module")
def first(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run from random weights."""
    output = tmp_path_factory.mktemp("runs") / "first"
    train(small_config(waves, output), resume=False, progress=False)
    return output / "last.ckpt"


def test_the_second_run_begins_where_the_first_ended(
    waves: Path, first: Path, tmp_path: Path
) -> None:
    config = small_config(waves, tmp_path / "run", learning_rate=1e-9, init=str(first))
    train(config, resume=False, progress=False)
    ended = [*logged(first.parent, "val_loss").values()][-1]
    began = next(iter(logged(tmp_path / "run", "val_loss").values()))
    assert began == pytest.approx(ended, abs=1e-4)
    scratch = small_config(waves, tmp_path / "scratch", learning_rate=1e-9)
    train(scratch, resume=False, progress=False)
    assert next(iter(logged(tmp_path / "scratch", "val_loss").values())) > ended + 0.1


def test_checkpoints_tell_what_the_run_began_with(waves: Path, first: Path, tmp_path: Path) -> None:
    train(small_config(waves, tmp_path / "run", init=str(first)), resume=False, progress=False)
    told = load_checkpoint(tmp_path / "run" / "last.ckpt").training["init"]
    assert told["name"] == "last"
    assert told["training"] == load_checkpoint(first).training


def test_a_run_from_other_weights_can_be_resumed(waves: Path, first: Path, tmp_path: Path) -> None:
    changes = {"init": str(first), "epochs": 1}
    train(small_config(waves, tmp_path / "run", **changes), resume=False, progress=False)
    resumed = small_config(waves, tmp_path / "run", epochs=2, init="moved-away.ckpt")
    with pytest.warns(match="run.epochs"):
        train(resumed, resume=True, progress=False)
    assert load_checkpoint(tmp_path / "run" / "last.ckpt").training["init"]["name"] == "last"


def test_another_network_is_refused_by_the_keys_that_differ(first: Path) -> None:
    model = LagLlama(dataclasses.replace(SPEC, num_layers=3, residual=True))
    with pytest.raises(InputError, match=r"another model: model\.num_layers, model\.residual;"):
        begin_with(model, first)


def test_another_context_is_no_other_network(first: Path) -> None:
    model = LagLlama(dataclasses.replace(SPEC, context_length=16))
    begin_with(model, first)
    for name, tensor in load_checkpoint(first).model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_missing_file_is_named(waves: Path, tmp_path: Path) -> None:
    config = write_config(small_config(waves, tmp_path / "run"), tmp_path / "a.yaml")
    done = CliRunner().invoke(main, ["train", str(config), "--init", str(tmp_path / "no.ckpt")])
    assert done.exit_code == 1
    assert done.stderr.strip().splitlines()[-1] == (
        f"Error: {tmp_path / 'no.ckpt'}: cannot be read (No such file or directory)"
    )
    assert not (tmp_path / "run").exists()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.ckpt").write_text("not weights")
    with pytest.raises(CheckpointError, match="notes.ckpt"):
        begin_with(LagLlama(SPEC), tmp_path / "notes.ckpt")


def test_saved_weights_are_read_again_with_how_they_were_trained(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = LagLlama(SPEC)
    save_checkpoint(tmp_path / "a.ckpt", model, {"steps": 3})
    back = load_checkpoint(tmp_path / "a.ckpt")
    assert back.training == {"steps": 3}
    assert back.model.spec == SPEC
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(back.model.state_dict()[name], tensor, rtol=0, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_network_may_begin_without_the_regression_that_it_goes_on_with(tmp_path: Path) -> None:
    """Where the regression expects the last value, it is the network that it was."""
    torch.manual_seed(1)
    plain = LagLlama(dataclasses.replace(SPEC, residual=True, seasons=True))
    plain.initialise()
    save_checkpoint(tmp_path / "a.ckpt", plain, {})
    model = LagLlama(dataclasses.replace(plain.spec, regression=True))
    begin_with(model, tmp_path / "a.ckpt")
    tokens = torch.randn(2, 6, plain.spec.num_features)
    lags, after = plain.spec.num_lags, plain.spec.num_lags + plain.spec.num_static
    errors = torch.randn(2, 6, 2)
    parts = [tokens[..., :lags], tokens[..., :1], tokens[..., lags:after], errors]
    widened = torch.cat([*parts, tokens[..., after:]], -1)
    with torch.no_grad():
        for name, wanted in plain(tokens).items():
            torch.testing.assert_close(model(widened)[name], wanted)
        widened[..., lags] += 8.0
        moved = model(widened)["loc"] - plain(tokens)["loc"]
    torch.testing.assert_close(moved, torch.full_like(moved, 8 * 0.1192), rtol=1e-3, atol=1e-3)
    save_checkpoint(tmp_path / "b.ckpt", model, {})
    with pytest.raises(InputError, match=r"another model: model\.regression;"):
        begin_with(plain, tmp_path / "b.ckpt")


def test_a_network_may_begin_with_fewer_lags_than_it_goes_on_with(tmp_path: Path) -> None:
    """Whatever the new lags hold, it is the network that it was."""
    torch.manual_seed(1)
    plain = LagLlama(dataclasses.replace(SPEC, seasons=True))
    plain.initialise()
    save_checkpoint(tmp_path / "a.ckpt", plain, {})
    lags = tuple(sorted({*plain.spec.lags, plain.spec.max_lag - 1, plain.spec.max_lag + 5}))
    model = LagLlama(dataclasses.replace(plain.spec, lags=lags))
    assert model.spec.num_lags == plain.spec.num_lags + 2
    begin_with(model, tmp_path / "a.ckpt")
    tokens = torch.randn(2, 6, plain.spec.num_features)
    last = len(plain.spec.lags) - 1
    new = torch.randn(2, 6, 2)
    parts = [tokens[..., :last], new[..., :1], tokens[..., last : last + 1], new[..., 1:]]
    widened = torch.cat([*parts, tokens[..., last + 1 :]], -1)
    with torch.no_grad():
        for name, wanted in plain(tokens).items():
            torch.testing.assert_close(model(widened)[name], wanted)
    save_checkpoint(tmp_path / "b.ckpt", model, {})
    with pytest.raises(InputError, match=r"another model: model\.lags;"):
        begin_with(plain, tmp_path / "b.ckpt")
