"""`laglite checkpoint`: a bundle back to a PyTorch checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from click.testing import CliRunner, Result

from laglite.bundle import locate, open_bundle
from laglite.cli import main
from laglite_export.bundle_weights import load_bundle_model
from laglite_train.checkpoint import load_checkpoint


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["checkpoint", *map(str, arguments)])


def test_the_checkpoint_holds_the_bundles_weights_and_history(tmp_path: Path) -> None:
    output = tmp_path / "nano.ckpt"
    done = run("nano", "--output", output)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{output}\n"
    bundle, back = open_bundle(locate("nano")), load_checkpoint(output)
    assert back.origin == "laglite"
    assert back.model.spec == bundle.spec
    assert back.training == bundle.manifest["training"]
    for name, tensor in load_bundle_model(bundle).state_dict().items():
        torch.testing.assert_close(back.model.state_dict()[name], tensor, rtol=0, atol=0)


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    output = tmp_path / "nano.ckpt"
    output.write_text("mine")
    refused = run("nano", "--output", output)
    assert refused.exit_code == 1
    assert "exists; choose another --output, or add --overwrite" in refused.stderr
    assert output.read_text() == "mine"
    assert run("nano", "--output", output, "--overwrite").exit_code == 0
    assert load_checkpoint(output).model.spec.num_layers > 0


def test_a_checkpoint_is_not_made_of_a_checkpoint(tmp_path: Path) -> None:
    run("nano", "--output", tmp_path / "nano.ckpt")
    done = run(tmp_path / "nano.ckpt", "--output", tmp_path / "again.ckpt")
    assert done.exit_code == 1
    assert "is a checkpoint already" in done.stderr


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    done = run("gigantic", "--output", tmp_path / "a.ckpt")
    assert done.exit_code == 1
    assert "gigantic: neither a model directory nor a shipped model" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("nano", "--output", tmp_path / "none" / "a.ckpt")
    assert done.exit_code == 1
    assert f"the folder {tmp_path / 'none'} does not exist" in done.stderr
