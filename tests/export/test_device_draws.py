"""Draws inside a graph: the exponential near 0, and places by rank, against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from laglite.heads import HEADS
from laglite.randomness import LatticeNoise
from laglite.window import Window
from laglite_export.device_draws import RADII, dealt_places, expm1
from laglite_export.graph_builder import FLOAT, WHOLE, GraphBuilder, WeightFile

WINDOW = Window(np.zeros(3, np.float32), 0.0, 1.0, 1, 0)


def session(
    name: str, build: Callable[[GraphBuilder], str], kind: int
) -> onnxruntime.InferenceSession:
    """A graph whose one output is what `build` returns."""
    g = GraphBuilder(name, WeightFile("none"))
    g.output("found", build(g), (), kind)
    model = g.build({})
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


EXPM1 = session("expm1", lambda g: expm1(g, g.input("y", ("n",))), FLOAT)
PLACES = session(
    "places",
    lambda g: dealt_places(
        g, g.input("values", ("series", "paths")), g.input("groups", ("paths",), WHOLE)
    ),
    WHOLE,
)


@given(hnp.arrays(np.float32, 7, elements=st.floats(0, 36.75, width=32, allow_subnormal=False)))
def test_the_exponential_less_one_is_exact_to_a_few_units_in_the_last_place(
    y: NDArray[np.float32],
) -> None:
    (found,) = EXPM1.run(None, {"y": y})
    np.testing.assert_allclose(found, np.expm1(y.astype(np.float64)), rtol=6e-7, atol=0)


def test_the_exponential_is_continuous_where_the_series_ends() -> None:
    y = np.nextafter(np.float32(0.5), np.array([0, 1], np.float32))
    (found,) = EXPM1.run(None, {"y": y})
    np.testing.assert_allclose(found, np.expm1(y.astype(np.float64)), rtol=3e-7)


@given(
    paths=st.integers(1, 90),
    series=st.integers(1, 3),
    levels=st.integers(1, 40),
    seed=st.integers(0, 999),
)
def test_places_are_those_of_a_stable_sort_of_every_group(
    paths: int, series: int, levels: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, levels, (series, paths)).astype(np.float32)  # with ties
    groups = np.sort(random.integers(0, 4, paths))
    (found,) = PLACES.run(None, {"values": values, "groups": groups})
    for row, places in zip(values, found, strict=True):
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            expected = np.empty(len(members), int)
            expected[np.argsort(row[members], kind="stable")] = np.arange(len(members))
            np.testing.assert_array_equal(places[members], members[0] + expected)


def test_places_deal_a_lattices_points_as_the_host_does() -> None:
    noise = LatticeNoise(5, WINDOW, 3, 80, 2)
    state = np.random.default_rng(0).standard_normal(80).astype(np.float32)
    (places,) = PLACES.run(None, {"values": state[None], "groups": noise.groups})
    expected = noise.uniforms(1, slice(0, 80), state)
    np.testing.assert_array_equal(noise.points()[1][:, places[0]], expected)


@pytest.mark.parametrize("head", RADII)
def test_radii_are_those_of_the_hosts_draws_from_the_centre_to_the_far_tail(head: str) -> None:
    df = np.array([2.001, 2.5, 5.0, 40.0, 1e4, 1e7], np.float32)[:, None]
    uniforms = np.array([2.0**-53, 1e-12, 1e-3, 0.5, 0.999, 1 - 1e-9, 1.0])
    run = session(
        head,
        lambda g: RADII[head](g, {"df": g.input("df", ("n", 1))}, g.input("log_u", ("m",))),
        FLOAT,
    )
    given = {"df": df, "log_u": np.log(uniforms).astype(np.float32)}
    (found,) = run.run(None, {place.name: given[place.name] for place in run.get_inputs()})
    arguments = {"df": df, "loc": np.zeros(1), "scale": np.ones(1)}
    both = np.stack([uniforms, np.ones_like(uniforms)])
    expected = HEADS[head].sample(arguments, both, WINDOW)
    np.testing.assert_allclose(np.broadcast_to(found, expected.shape), expected, rtol=2e-6)
