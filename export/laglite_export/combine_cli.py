"""`laglite combine`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from laglite.atomic_file import check_place, check_unused
from laglite.cli.completion import complete_model
from laglite.errors import missing

GOES_ON = ("sampling", "rollout")  # what fine-tuning takes over from the first network's training


@click.command()
@click.argument("models", nargs=-1, required=True, shell_complete=complete_model)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def combine(models: tuple[str, ...], output: Path, overwrite: bool) -> None:
    """Make one network of MODELS, checkpoints, bundle directories or shipped models' names.

    They stand side by side, and its output is the mean of theirs at every step: more accurate on
    new series than each, at the cost of all. A model of several towers counts as so many. They may
    differ in layers, heads and MLP width, and the first, whose lags, regression and context count,
    may have lags and a regression that others have not. `laglite export` makes a bundle of the
    checkpoint.
    """
    try:
        from laglite_export.base_model import load_base
        from laglite_train.checkpoint import save_checkpoint
        from laglite_train.towers import side_by_side
    except ModuleNotFoundError as error:
        raise missing(str(error.name), "export", "laglite combine") from error
    if not overwrite:
        check_unused(output)
    check_place(output)
    bases = [load_base(model) for model in models]
    joint = side_by_side(list(models), [base.model for base in bases])
    training: dict[str, Any] = {
        "towers": [{"name": base.name, "training": dict(base.training)} for base in bases],
        **{key: bases[0].training[key] for key in GOES_ON if key in bases[0].training},
    }
    save_checkpoint(output, joint, training)
    click.echo(
        f"{joint.spec.num_parameters:,} weights in {len(joint.spec.towers)} towers", err=True
    )
    click.echo(output)
