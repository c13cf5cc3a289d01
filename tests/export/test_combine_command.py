"""`laglite combine`: several networks to one checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from laglite import Forecaster
from laglite.cli import main
from laglite.spec import ModelSpec
from laglite_train.checkpoint import load_checkpoint, save_checkpoint
from laglite_train.model import LagLlama


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def networks(small_spec: ModelSpec, tmp_path: Path) -> list[Path]:
    """Checkpoints of two fresh networks."""
    paths = []
    for seed, heads in enumerate((2, 1)):
        torch.manual_seed(seed)
        model = LagLlama(dataclasses.replace(small_spec, num_heads=heads))
        model.initialise()
        paths.append(tmp_path / f"network{seed}.ckpt")
        save_checkpoint(paths[-1], model, {"sampling": {"horizon": 8 + seed}, "seed": seed})
    return paths


def test_two_checkpoints_become_one_that_exports_and_forecasts(
    networks: list[Path], tmp_path: Path
) -> None:
    output, bundle = tmp_path / "joint.ckpt", tmp_path / "joint"
    done = run("combine", *networks, "--output", output)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{output}\n"
    assert "weights in 2 towers" in done.stderr
    training = load_checkpoint(output).training
    assert [tower["training"]["seed"] for tower in training["towers"]] == [0, 1]
    assert training["sampling"] == {"horizon": 8}  # what fine-tuning goes on with
    exported = run("export", output, "--output", bundle, "--license", "none")
    assert exported.exit_code == 0, exported.output
    shown = run("info", bundle)
    assert "2 layers, 2 + 1 heads x 8 in 2 towers" in shown.stdout
    values = 20 + np.random.default_rng(0).normal(size=60).cumsum()
    for precision in ("fp32", "int8", "fp16"):
        forecaster = Forecaster.load(bundle, precision=precision)
        assert forecaster.predict(values, horizon=5).samples.shape == (100, 5)
    # A bundle of towers is one of those that can be combined, too.
    assert run("combine", bundle, networks[1], "--output", tmp_path / "three.ckpt").exit_code == 0
    assert len(load_checkpoint(tmp_path / "three.ckpt").model.spec.towers) == 3


def test_an_existing_file_is_kept_unless_told_otherwise(
    networks: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "joint.ckpt"
    output.write_text("mine")
    refused = run("combine", *networks, "--output", output)
    assert refused.exit_code == 1
    assert "exists; choose another --output, or add --overwrite" in refused.stderr
    assert output.read_text() == "mine"
    assert run("combine", *networks, "--output", output, "--overwrite").exit_code == 0


def test_an_output_that_cannot_be_is_refused_before_a_network_is_read(tmp_path: Path) -> None:
    done = run("combine", "nowhere", "nano", "--output", tmp_path / "none" / "joint.ckpt")
    assert done.exit_code == 1
    assert f"the folder {tmp_path / 'none'} does not exist" in done.stderr
    done = run("combine", "nowhere", "nano", "--output", tmp_path, "--overwrite")
    assert f"{tmp_path}: is a directory" in done.stderr


def test_models_that_do_not_go_together_are_named(networks: list[Path], tmp_path: Path) -> None:
    done = run("combine", networks[0], "nano", "--output", tmp_path / "joint.ckpt")
    assert done.exit_code == 1
    assert f"nano and {networks[0]} differ in head_dim" in done.stderr
    alone = run("combine", "nano", "--output", tmp_path / "joint.ckpt")
    assert alone.exit_code == 1
    assert "name at least two" in alone.stderr
    assert not (tmp_path / "joint.ckpt").exists()
