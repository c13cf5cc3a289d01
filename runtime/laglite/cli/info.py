"""`laglite info`."""

from __future__ import annotations

import dataclasses
import json
import platform
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from laglite.backends import Availability, availability
from laglite.bundle import locate, open_bundle, shipped_models
from laglite.cli.completion import complete_model
from laglite.spec import HEAD_GROUPS, ModelSpec
from laglite.version import __version__


@click.command()
@click.argument("model", required=False, shell_complete=complete_model)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def info(model: str | None, as_json: bool) -> None:
    """Describe MODEL (a bundle directory or shipped name; "base" by default) and this machine.

    Backends that cannot run here are listed with the reason and what to do about it.
    """
    bundle = open_bundle(locate(model))
    spec, manifest = bundle.spec, bundle.manifest
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    rows = [
        ("model", bundle.name),
        ("path", str(bundle.path)),
        ("license", str(manifest.get("license", "unspecified"))),
        ("size", f"{size / 1e6:.2f} MB, {spec.num_parameters:,} weights"),
        ("network", _network(spec)),
        ("head", f"{spec.head} ({_arguments(spec.head)})"),
        ("lags", f"{len(spec.lags)}, up to {spec.max_lag}"),
        ("context", f"{spec.context_length} (at most {spec.max_positions or 'any'} with horizon)"),
        ("rules", _rules(spec)),
        ("calendar", _calendar(spec.calendar, spec.calendar_optional)),
        ("covariates", str(spec.num_covariates or "none")),
        ("made with", _versions(manifest.get("created_with"))),
    ]
    for precision in bundle.precisions.values():
        rows.append((precision.name, f"within {precision.max_difference:.2g} of PyTorch"))
    rows += _accuracy(manifest.get("evaluation"))
    rows += [
        ("shipped", ", ".join(shipped_models())),
        ("laglite", f"{__version__}, Python {platform.python_version()}, numpy {np.__version__}"),
        ("machine", f"{platform.system()} {platform.machine()}"),
    ]
    backends = availability()
    if as_json:
        listing = [{"available": each.available, **dataclasses.asdict(each)} for each in backends]
        click.echo(json.dumps({**dict(rows), "backends": listing}, indent=1))
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")  # a path or an address is not cut
    for label, text in [*rows, *((f"backend {each.backend}", _backend(each)) for each in backends)]:
        table.add_row(label, text)
    Console(soft_wrap=True, markup=False, emoji=False).print(table)


def _network(spec: ModelSpec) -> str:
    heads = " + ".join(str(each) for each, _ in spec.towers) or str(spec.num_heads)
    towers = f" in {len(spec.towers)} towers" if spec.towers else ""
    rope = "" if spec.rope_scaling == "none" else f", rope {spec.rope_scaling} x{spec.rope_factor}"
    return f"{spec.num_layers} layers, {heads} heads x {spec.head_dim}{towers}{rope}"


def _versions(made_with: Any) -> str:
    """What a manifest says of the versions that produced it; nothing relies on that."""
    if not isinstance(made_with, dict) or not made_with:
        return "unspecified"
    return ", ".join(f"{name} {version}" for name, version in made_with.items())


def _accuracy(evaluation: Any) -> list[tuple[str, str]]:
    """Rows of a manifest's evaluation, where it has what `laglite` itself writes."""
    found = evaluation if isinstance(evaluation, dict) else {}
    wql, sets = found.get("relative_wql"), found.get("data_sets")
    if not isinstance(wql, float) or not isinstance(sets, (list, dict)):
        return []
    text = f"WQL {wql:.3f} of seasonal naive's, {len(sets)} data sets (geometric mean)"
    rows = [("accuracy", text)]
    if isinstance(found.get("coverage_80"), float):
        share = f"{100 * found['coverage_80']:.1f} %"
        rows.append(("intervals", f"of 80 % held {share} of the values there"))
    return rows


def _arguments(head: str) -> str:
    """Kinds of arguments, each with its number where there are several."""
    return ", ".join(
        kind if count == 1 else f"{count} x {kind}" for kind, count in HEAD_GROUPS[head].items()
    )


def _rules(spec: ModelSpec) -> str:
    seasons = ", seasonal lags" if spec.seasons else ""
    centre = ", predicts the change" if spec.residual else ""
    regression = ", regression on the history" if spec.regression else ""
    units = ", scale-free" if spec.scale_free else ""
    return f"scaling {spec.scaling}, history {spec.history}{units}{seasons}{regression}{centre}"


def _calendar(used: bool, optional: bool) -> str:
    if not used:
        return "not used"
    return "used where there are timestamps" if optional else "used; expects timestamps"


def _backend(found: Availability) -> str:
    return found.version if found.available else f"no: {found.problem}; {found.remedy}"
