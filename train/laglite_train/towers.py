"""Towers: several trained networks side by side as one, whose outputs are their mean.

What networks learn of the data they agree on, and what each made up it made up differently: the
mean of a few forecasts new series better than a single network of the same size. Here they are
averaged at every step, before the head's domain map, so that there is one distribution, one set of
paths and one likelihood, and training can go on (an ensemble within one network, as in
Packed-Ensembles, Laurent et al. 2023, section 3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from laglite.errors import InputError
from laglite.spec import ModelSpec
from laglite_train.model import LagLlama
from laglite_train.warm_start import widened_inputs

# What networks of one may have of their own.
OWN = (
    "num_layers",
    "num_heads",
    "mlp_width",
    "towers",
    "lags",
    "regression",
    "context_length",
    "max_context_length",
    "calendar_optional",
)
SHUT = -30.0  # the gate of a network without a regression: a share of 1e-13


def side_by_side(names: Sequence[str], models: Sequence[LagLlama]) -> LagLlama:
    """One network with the given ones as its towers; the first decides lags and context.

    Lags that a tower did not have weigh nothing there, nor does a regression; layers that it did
    not have add nothing; there are as many positions as in the shortest. The mean is one of the
    head's arguments before their domain map, and of the points that these are the change from.
    Raises InputError, with their `names`, if there are fewer than two, if they differ in more than
    sizes, or lags that the first has, if one has fewer positions than the first's context, or if
    their head is a mixture.
    """
    if len(models) < 2:
        raise InputError("one network alone has nothing to be combined with; name at least two")
    if models[0].spec.head == "mixtureT":
        raise InputError(
            f"{names[0]} has the head mixtureT, whose parts have no order: the mean of two "
            "networks' parts would mean nothing"
        )
    first = models[0].spec.to_dict()
    for name, model in zip(names, models, strict=True):
        other = model.spec.to_dict()
        same = ("max_context_length",) if first["rope_scaling"] == "dynamic" else ()
        unlike = [
            key for key in first if (key not in OWN or key in same) and first[key] != other[key]
        ]
        if unlike:
            raise InputError(
                f"{name} and {names[0]} differ in {', '.join(unlike)}; towers of one network "
                "may differ only in layers, heads, MLP width, lags, regression and context"
            )
        _check_lags(name, model.spec, names[0], models[0].spec)
        context, most = models[0].spec.context_length, model.spec.max_positions
        if most is not None and most < context:
            raise InputError(
                f"{name} has {most} positions, fewer than the context of {names[0]}, {context} "
                "tokens; name the network with the shortest context first"
            )
    layers = max(model.spec.num_layers for model in models)
    parts = [_deepened(model, layers) for model in models]
    joint = LagLlama(_joint_spec([part.spec for part in parts]))
    joint.load_state_dict(_joint_weights(parts, joint.spec))
    return joint.eval()


def _deepened(model: LagLlama, layers: int) -> LagLlama:
    """The same function in `layers` layers; those it did not have are ready to learn."""
    if model.spec.num_layers == layers:
        return model
    deeper = LagLlama(dataclasses.replace(model.spec, num_layers=layers))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        deeper.initialise()
    weights = deeper.state_dict()
    for name in weights:
        if ".c_proj." in name:  # what a layer adds to the residual stream
            weights[name] = torch.zeros_like(weights[name])
    deeper.load_state_dict({**weights, **model.state_dict()})
    return deeper


def _check_lags(name: str, other: ModelSpec, first_name: str, first: ModelSpec) -> None:
    """Whether the first network's window and regression are the other's too."""
    if other.max_lag != first.max_lag or not set(other.lags) <= set(first.lags):
        raise InputError(
            f"{name} has lags that {first_name} does not have, or another longest one; name the "
            "network with the most lags first"
        )
    if other.regression and (other.lags != first.lags or not first.regression):
        raise InputError(
            f"{name} has a regression on its lags that {first_name} does not have; it needs the "
            "same lags and a regression too"
        )


def _joint_spec(specs: Sequence[ModelSpec]) -> ModelSpec:
    towers = [
        (width // spec.head_dim, hidden) for spec in specs for width, hidden in spec.tower_sizes
    ]
    return dataclasses.replace(
        specs[0],
        num_heads=sum(spec.num_heads for spec in specs),
        mlp_width=sum(spec.mlp_width for spec in specs),
        towers=tuple(towers),
        max_context_length=min(spec.max_context_length for spec in specs),
        calendar_optional=all(spec.calendar_optional for spec in specs),
    )


def _joint_weights(parts: Sequence[LagLlama], joint: ModelSpec) -> dict[str, Tensor]:
    states = [part.state_dict() for part in parts]
    weights: dict[str, Tensor] = {}
    tower = 0
    for part, state in zip(parts, states, strict=True):
        count = len(part.spec.tower_sizes)
        for name, value in state.items():
            *stem, last = name.split(".")
            if name.startswith("transformer.h.") and last == "weight":
                own = int(stem.pop()) if part.spec.towers else 0
                weights[".".join([*stem, str(tower + own), last])] = value
        tower += count
    for name in states[0]:
        if name.endswith(".scale"):
            weights[name] = torch.cat([state[name] for state in states])
    name = "transformer.wte"
    weights[f"{name}.bias"] = torch.cat([state[f"{name}.bias"] for state in states])
    weights[f"{name}.weight"] = torch.cat(
        [
            widened_inputs(state[f"{name}.weight"], part.spec, joint)
            for part, state in zip(parts, states, strict=True)
        ]
    )
    shares = [len(part.spec.tower_sizes) / tower for part in parts]
    for index in range(len(joint.arguments)):
        name = f"param_proj.proj.{index}"
        weighed = [
            (state[f"{name}.weight"] * share, state[f"{name}.bias"] * share)
            for state, share in zip(states, shares, strict=True)
        ]
        weights[f"{name}.weight"] = torch.cat([weight for weight, _ in weighed], dim=1)
        weights[f"{name}.bias"] = torch.stack([bias for _, bias in weighed]).sum(0)
    if joint.regression:
        gates = [_gates(part) for part in parts]
        weights["regression_gate.weight"] = torch.block_diag(*(weight for weight, _ in gates))
        weights["regression_gate.bias"] = torch.cat([bias for _, bias in gates])
    return weights


def _gates(part: LagLlama) -> tuple[Tensor, Tensor]:
    """Weight and bias of a gate for each tower of a network, which never open if it had none."""
    if part.spec.regression:
        return part.regression_gate.weight.detach(), part.regression_gate.bias.detach()
    count = len(part.spec.tower_sizes)
    return torch.zeros(count, part.spec.width), torch.full((count,), SHUT)
