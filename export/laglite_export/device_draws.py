"""Draws inside a graph: ranks of paths among their group, and the heads' closed forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from laglite_export.graph_builder import FLOAT, WHOLE, GraphBuilder

SCOPE = "draw"
SMALL = 0.5  # exponents below it take the series: exp(y) - 1 would lose their bits
TERMS = 8  # leave a relative 1e-8 of it


def positions(g: GraphBuilder, x: str, axis: int, scope: str) -> str:
    """0, 1, .. along an axis of x: int64 [length]."""
    shape = g.op("Shape", x, scope=scope)
    length = g.op("Gather", shape, _whole(g, axis), scope=scope, axis=0)
    return g.op("Range", _whole(g, 0), length, _whole(g, 1), scope=scope)


def dealt_places(g: GraphBuilder, values: str, groups: str) -> str:
    """Whose noise each path takes, int64 [series, paths].

    `values` [series, paths] are the last; `groups` int64 [paths] rise, and are equal where paths
    share a lattice. A path takes that of the place of its value in its group, in rising order;
    equal values keep the order of the paths.
    """
    number = positions(g, groups, 0, SCOPE)
    own, other = g.shape(-1), g.shape(0)
    group, others = (g.op("Unsqueeze", groups, axis, scope=SCOPE) for axis in (own, other))
    mine, theirs = (g.op("Unsqueeze", number, axis, scope=SCOPE) for axis in (own, other))
    same = g.op("Equal", others, group, scope=SCOPE)  # [paths, paths], as what follows
    earlier = g.op("And", same, g.op("Less", theirs, mine, scope=SCOPE), scope=SCOPE)
    first = _count(g, g.op("Less", others, group, scope=SCOPE))  # of the group's paths
    value = g.op("Unsqueeze", values, own, scope=SCOPE)
    beside = g.op("Unsqueeze", values, g.shape(1), scope=SCOPE)
    less = g.op("And", g.op("Less", beside, value, scope=SCOPE), same, scope=SCOPE)
    tied = g.op("And", g.op("Equal", beside, value, scope=SCOPE), earlier, scope=SCOPE)
    rank = _count(g, g.op("Or", less, tied, scope=SCOPE))
    return g.op("Cast", g.op("Add", rank, first, scope=SCOPE), scope=SCOPE, to=WHOLE)


def student_t(g: GraphBuilder, arguments: Mapping[str, str], log_uniform: str) -> str:
    """Radius of the polar form, sqrt(df (u^(-2/df) - 1)), from log u (Bailey 1994)."""
    df = arguments["df"]
    power = g.op("Div", _number(g, -2.0), df, scope=SCOPE)
    grown = expm1(g, g.op("Mul", log_uniform, power, scope=SCOPE))
    return g.op("Sqrt", g.op("Mul", df, grown, scope=SCOPE), scope=SCOPE)


def normal(g: GraphBuilder, _: Mapping[str, str], log_uniform: str) -> str:
    """Radius of Box-Muller, sqrt(-2 log u)."""
    square = g.op("Mul", log_uniform, _number(g, -2.0), scope=SCOPE)
    return g.op("Sqrt", square, scope=SCOPE)


# Heads that are loc + scale * radius * cos(2 pi v).
RADII: dict[str, Callable[[GraphBuilder, Mapping[str, str], str], str]] = {
    "studentT": student_t,
    "normal": normal,
}


def expm1(g: GraphBuilder, y: str) -> str:
    """exp(y) - 1 for y >= 0, to a few units in the last place also where y is small."""
    series = one = _number(g, 1.0)
    for term in range(TERMS, 1, -1):  # y (1 + y/2 (1 + y/3 (..)))
        scaled = g.op("Mul", y, _number(g, 1.0 / term), scope=SCOPE)
        series = g.op("Add", g.op("Mul", scaled, series, scope=SCOPE), one, scope=SCOPE)
    series = g.op("Mul", series, y, scope=SCOPE)
    plain = g.op("Sub", g.op("Exp", y, scope=SCOPE), one, scope=SCOPE)
    small = g.op("Less", y, _number(g, SMALL), scope=SCOPE)
    return g.op("Where", small, series, plain, scope=SCOPE)


def _count(g: GraphBuilder, flags: str) -> str:
    """How many of flags [.., paths] are set: float32 [..], exact up to 2^24."""
    ones = g.op("Cast", flags, scope=SCOPE, to=FLOAT)
    return g.op("ReduceSum", ones, g.shape(-1), scope=SCOPE, keepdims=0)


def _number(g: GraphBuilder, value: float) -> str:
    return g.constant(f"number/{value:g}", np.array([value], np.float32))


def _whole(g: GraphBuilder, value: int) -> str:
    return g.constant(f"whole/{value}", np.array(value, np.int64))
