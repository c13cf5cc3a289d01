"""Towers: networks side by side are the mean of each alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from laglite.errors import InputError
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode
from laglite_train.checkpoint import load_checkpoint, save_checkpoint
from laglite_train.finetuning import freeze
from laglite_train.model import LagLlama
from laglite_train.towers import side_by_side
from laglite_train.warm_start import begin_with

FIRST = ModelSpec(
    2, 2, 8, 16, (0, 1, 2, 5, 9), scaling="iqr", history="carry", residual=True, regression=True,
    seasons=True, context_length=12, max_context_length=64,
)  # fmt: skip
SECOND = dataclasses.replace(
    FIRST, num_heads=1, mlp_width=24, lags=(0, 1, 5, 9), regression=False, context_length=8
)
VALUES = 40 + np.random.default_rng(2).normal(size=80).cumsum()
AXIS = TimeAxis.of("2024-03-01", "h")


def random_network(spec: ModelSpec, seed: int) -> LagLlama:
    torch.manual_seed(seed)
    model = LagLlama(spec)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def arguments_of(model: LagLlama) -> dict[str, Tensor]:
    """Of the values' last twelve, from the tokens that this network reads."""
    tokens = encode(model.spec, VALUES, AXIS, 12).tokens
    with torch.no_grad():
        return model(torch.from_numpy(tokens)[None])


def before_softplus(x: Tensor) -> Tensor:
    return torch.log(torch.expm1(x.double()))


@pytest.mark.parametrize(
    "second",
    [
        SECOND,
        dataclasses.replace(FIRST, num_heads=3),
        dataclasses.replace(SECOND, num_layers=1),
        dataclasses.replace(SECOND, num_layers=4),
    ],
)
def test_a_joint_network_is_the_mean_of_its_towers_before_the_domain_map(second: ModelSpec) -> None:
    models = [random_network(FIRST, 0), random_network(second, 1)]
    joint = side_by_side(["one", "other"], models)
    found, (a, b) = arguments_of(joint), map(arguments_of, models)
    torch.testing.assert_close(found["loc"], (a["loc"] + b["loc"]) / 2)
    for name, shift in (("scale", 0.0), ("df", 2.0)):
        mean = (before_softplus(a[name] - shift) + before_softplus(b[name] - shift)) / 2
        wanted = functional.softplus(mean).float() + shift
        torch.testing.assert_close(found[name], wanted, rtol=2e-4, atol=1e-4)
    assert joint.spec.towers == ((2, 16), (second.num_heads, second.mlp_width))
    assert joint.spec.context_length == FIRST.context_length
    assert joint.spec.num_parameters == sum(p.numel() for p in joint.parameters())


def test_towers_join_further_ones_with_equal_weight() -> None:
    models = [random_network(spec, seed) for seed, spec in enumerate((FIRST, SECOND, SECOND))]
    pair = side_by_side(["a", "b"], models[:2])
    found = arguments_of(side_by_side(["ab", "c"], [pair, models[2]]))
    at_once = arguments_of(side_by_side(["a", "b", "c"], models))
    for name, wanted in at_once.items():
        torch.testing.assert_close(found[name], wanted)
    locs = [arguments_of(model)["loc"] for model in models]
    torch.testing.assert_close(found["loc"], sum(locs) / 3)


def test_layers_that_a_tower_did_not_have_can_learn() -> None:
    shallow = random_network(dataclasses.replace(SECOND, num_layers=1), 0)
    joint = side_by_side(["a", "b"], [random_network(FIRST, 1), shallow])
    again = side_by_side(["a", "b"], [random_network(FIRST, 1), shallow])
    tokens = torch.randn(2, 12, joint.spec.num_features)
    sum(value.sum() for value in joint(tokens).values()).backward()
    for part in ("attn", "mlp"):
        name = f"transformer.h.1.{part}.c_proj.1.weight"
        weight = joint.get_parameter(name)
        assert not weight.detach().any()
        assert weight.grad is not None
        assert weight.grad.abs().max() > 0
    for name, weight in again.state_dict().items():
        torch.testing.assert_close(joint.state_dict()[name], weight, rtol=0, atol=0)


def test_towers_see_nothing_of_each_other() -> None:
    joint = side_by_side(["a", "b"], [random_network(FIRST, 0), random_network(SECOND, 1)])
    states: list[Tensor] = []
    hook = joint.transformer["ln_f"].register_forward_hook(lambda *call: states.append(call[2]))
    arguments_of(joint)
    with torch.no_grad():
        for name, parameter in joint.named_parameters():
            if ".1.weight" in name and ".h." in name:  # the second's
                parameter.mul_(2.0)
    arguments_of(joint)
    hook.remove()
    before, after = states
    torch.testing.assert_close(after[..., :16], before[..., :16], rtol=0, atol=0)
    assert (after[..., 16:] != before[..., 16:]).any(-1).all()


def test_a_tower_without_a_regression_takes_nothing_from_it() -> None:
    joint = side_by_side(["a", "b"], [random_network(FIRST, 0), random_network(SECOND, 1)])
    shares = torch.sigmoid(joint.regression_gate(torch.randn(50, joint.spec.width)))
    assert shares[:, 1].max() < 1e-12
    assert shares[:, 0].min() > 1e-6


def test_a_network_too_short_for_the_firsts_context_is_named() -> None:
    one = random_network(FIRST, 0)
    short = dataclasses.replace(FIRST, context_length=8, max_context_length=11)
    other = random_network(short, 1)
    with pytest.raises(InputError, match="other has 11 positions, fewer than the context of one, "):
        side_by_side(["one", "other"], [one, other])
    joint = side_by_side(["other", "one"], [other, one])
    assert (joint.spec.context_length, joint.spec.max_context_length) == (8, 11)


@pytest.mark.parametrize(
    ("changes", "unlike"),
    [
        ({"head": "normal", "scaling": "std"}, "head, scaling"),
        ({"head_dim": 16}, "head_dim"),
        ({"num_covariates": 1}, "num_covariates"),
    ],
)
def test_networks_that_cannot_stand_side_by_side_are_refused_by_what_differs(
    changes: dict[str, Any], unlike: str
) -> None:
    models = [random_network(spec, 0) for spec in (FIRST, dataclasses.replace(FIRST, **changes))]
    with pytest.raises(InputError, match=f"other and one differ in {unlike}; towers"):
        side_by_side(["one", "other"], models)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lags": (0, 1, 2, 5, 8)}, "other has lags that one does not have, or another longest"),
        ({"lags": (0, 1, 2, 5)}, "another longest one; name the network with the most lags first"),
        ({"lags": (0, 1, 2, 9), "regression": True}, "other has a regression on its lags that one"),
    ],
)
def test_windows_and_regressions_that_are_not_the_firsts_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    other = random_network(dataclasses.replace(SECOND, **changes), 0)
    with pytest.raises(InputError, match=message):
        side_by_side(["one", "other"], [random_network(FIRST, 0), other])


def test_a_regression_is_not_lost_behind_a_network_without_one() -> None:
    plain = dataclasses.replace(FIRST, regression=False)
    with pytest.raises(InputError, match="one does not have; it needs the same lags"):
        side_by_side(["one", "other"], [random_network(plain, 0), random_network(FIRST, 0)])


def test_rotary_positions_that_follow_the_longest_context_must_be_the_same() -> None:
    dynamic = dataclasses.replace(FIRST, rope_scaling="dynamic", rope_factor=2.0)
    longer = dataclasses.replace(dynamic, max_context_length=80)
    with pytest.raises(InputError, match="other and one differ in max_context_length; towers"):
        side_by_side(["one", "other"], [random_network(dynamic, 0), random_network(longer, 1)])
    plain = dataclasses.replace(FIRST, max_context_length=80)
    joint = side_by_side(["one", "other"], [random_network(plain, 0), random_network(FIRST, 1)])
    assert joint.spec.max_context_length == 64


def test_parts_of_a_mixture_are_not_averaged() -> None:
    mixture = random_network(dataclasses.replace(FIRST, head="mixtureT"), 0)
    with pytest.raises(InputError, match="one has the head mixtureT, whose parts have no order"):
        side_by_side(["one", "other"], [mixture, mixture])


def test_one_network_is_not_combined_with_nothing() -> None:
    with pytest.raises(InputError, match="one network alone"):
        side_by_side(["one"], [random_network(FIRST, 0)])


def test_training_goes_on_from_towers_with_more_lags(tmp_path: Path) -> None:
    joint = side_by_side(["a", "b"], [random_network(SECOND, 0), random_network(SECOND, 1)])
    save_checkpoint(tmp_path / "joint.ckpt", joint, {})
    assert load_checkpoint(tmp_path / "joint.ckpt").model.spec == joint.spec
    wider = LagLlama(dataclasses.replace(joint.spec, lags=(0, 1, 2, 5, 9)))
    begin_with(wider, tmp_path / "joint.ckpt")
    for name, wanted in arguments_of(joint).items():
        torch.testing.assert_close(arguments_of(wider)[name], wanted)


def test_every_weight_of_every_tower_learns() -> None:
    joint = side_by_side(["a", "b"], [random_network(FIRST, 0), random_network(FIRST, 1)])
    assert freeze(joint, "none") == joint.spec.num_parameters
    tokens = torch.randn(2, 12, joint.spec.num_features)
    sum(value.sum() for value in joint(tokens).values()).backward()
    for name, parameter in joint.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_fresh_towers_write_as_little_to_the_stream_as_one_network() -> None:
    torch.manual_seed(0)
    towers = ((8, 128), (8, 256))
    model = LagLlama(dataclasses.replace(FIRST, num_heads=16, mlp_width=384, towers=towers))
    model.initialise()
    weights = dict(model.named_parameters())
    for name, std in (("q_proj.1", 64**-0.5), ("c_proj.0", 64**-0.5 / 2)):
        found = float(weights[f"transformer.h.0.attn.{name}.weight"].detach().std())
        assert found == pytest.approx(std, rel=0.05), name
