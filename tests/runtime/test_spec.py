"""Model specifications: checked once, at the edge."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from laglite.errors import SpecError
from laglite.spec import ModelSpec, default_mlp_width


def test_a_spec_survives_json(small_spec: ModelSpec) -> None:
    assert ModelSpec.from_dict(json.loads(json.dumps(small_spec.to_dict()))) == small_spec


def test_the_release_configuration_has_the_published_number_of_weights() -> None:
    spec = ModelSpec(8, 9, 16, default_mlp_width(144), tuple(range(84)))
    assert (spec.num_features, spec.num_parameters) == (92, 2_449_299)


def test_heads_of_several_parts_number_their_arguments(small_spec: ModelSpec) -> None:
    mixture, spline = (
        dataclasses.replace(small_spec, head=head) for head in ("mixtureT", "spline")
    )
    assert mixture.arguments == (
        *("weight_1", "weight_2", "weight_3", "df_1", "df_2", "df_3"),
        *("loc_1", "loc_2", "loc_3", "scale_1", "scale_2", "scale_3"),
    )
    assert spline.arguments[:3] == ("loc", "scale", "width_1")
    assert (len(spline.arguments), spline.arguments[-1]) == (25, "slope_7")


@pytest.mark.parametrize(("width", "hidden"), [(144, 512), (32, 256), (96, 256), (192, 512)])
def test_the_mlp_width_is_rounded_up_to_a_multiple_of_256(width: int, hidden: int) -> None:
    assert default_mlp_width(width) == hidden


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 0}, "num_layers must be a whole number"),
        ({"num_layers": True}, "num_layers must be a whole number"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"lags": ()}, "lags must be distinct"),
        ({"lags": (3, 1)}, "lags must be distinct"),
        ({"lags": (-1, 1)}, "lags must be distinct"),
        ({"head": "iqn"}, "head 'iqn' is not known; one of: studentT"),
        ({"scaling": "max"}, "scaling 'max' is not known"),
        ({"history": "drop"}, "history 'drop' is not known"),
        ({"rope_scaling": "yarn"}, "rope_scaling 'yarn' is not known"),
        ({"rope_factor": 0.5}, "rope_factor must be at least 1"),
        ({"max_context_length": 4}, "max_context_length 4 is below"),
        ({"max_context_length": 2**20}, "reach more than 1,048,576 steps back"),
        ({"lags": (0, 2**20)}, "reach more than 1,048,576 steps back"),
        ({"towers": ((2, 16),)}, "towers must be none, or at least two"),
        ({"towers": ((2, 16), (0, 16))}, r"each \[heads, mlp width\] from 1"),
        ({"towers": ((1, 8), (2, 8))}, "towers have 3 heads and MLPs 16 wide between them; num_"),
        ({"num_covariates": -1}, "num_covariates must be a whole number of at least 0, not -1"),
        ({"num_covariates": True}, "num_covariates must be a whole number"),
        ({"num_covariates": 1.0}, "num_covariates must be a whole number"),
        ({"residual": True, "lags": (1, 2)}, "residual needs lag 0 and a head with a loc"),
        ({"residual": True, "head": "neg_bin"}, "residual needs lag 0 and a head with a loc"),
        ({"regression": True}, "regression needs residual, and history 'carry'"),
        ({"regression": True, "residual": True, "history": "zeros"}, "regression needs residual"),
    ],
)
def test_an_impossible_setting_is_named(
    small_spec: ModelSpec, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(small_spec, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3}, "unknown model setting 'depth'"),
        ({"num_layers": "2"}, "num_layers must be a int, not '2'"),
        ({"calendar": 1}, "calendar must be a bool"),
        ({"lags": 3}, "lags must be a list"),
        ({"lags": [0.5]}, "lags must be a list"),
    ],
)
def test_settings_of_other_types_are_refused(
    small_spec: ModelSpec, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        ModelSpec.from_dict({**small_spec.to_dict(), **change})


def test_a_missing_setting_is_named(small_spec: ModelSpec) -> None:
    values = small_spec.to_dict()
    del values["lags"]
    with pytest.raises(SpecError, match="'lags' is missing"):
        ModelSpec.from_dict(values)


def test_a_spec_from_before_covariates_has_none(small_spec: ModelSpec) -> None:
    values = small_spec.to_dict()
    assert values.pop("num_covariates") == 0
    assert ModelSpec.from_dict(values) == small_spec


def test_towers_have_fewer_weights_than_one_network_of_their_widths(small_spec: ModelSpec) -> None:
    towers = dataclasses.replace(small_spec, towers=((1, 6), (1, 10)))
    assert ModelSpec.from_dict(json.loads(json.dumps(towers.to_dict()))) == towers
    assert towers.tower_sizes == ((8, 6), (8, 10))
    assert small_spec.tower_sizes == ((16, 16),)
    # A layer's four square matrices are halved, and so are the three of the MLP.
    assert small_spec.num_parameters - towers.num_parameters == 2 * (4 * 128 + 3 * 128)


def test_covariates_lengthen_the_token(small_spec: ModelSpec) -> None:
    wider = dataclasses.replace(small_spec, num_covariates=3)
    assert wider.num_features == small_spec.num_features + 3
    assert wider.num_parameters == small_spec.num_parameters + 3 * small_spec.width
