"""The device step graph: draws, tokens and a decoder step, launched again over its own outputs.

Everything that changes from step to step lies in buffers that the graph updates, so that nothing
passes between host and device until all paths are drawn. An input of which an output `next_...`
exists is read by one node alone, or only by what the output follows from: both may be one buffer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from laglite.spec import ModelSpec
from laglite_export.attention import OwnAttention, joint_attention, shares_of
from laglite_export.device_draws import RADII, dealt_places, positions
from laglite_export.graph_builder import WHOLE, GraphBuilder
from laglite_export.layers import (
    Weights,
    attention_output,
    embed,
    final_norm,
    head,
    mlp,
    query_key_value,
    rms_norm,
    widen_rotary,
)

SERIES, PATHS, STEPS, CONTEXT = "series", "paths", "steps", "context + 1"


def can_draw(spec: ModelSpec) -> bool:
    """Whether a model's head draws inside a graph."""
    return spec.head in RADII


def build_device_step(
    g: GraphBuilder, spec: ModelSpec, weights: Weights, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Build the graph; its inputs and outputs are specified in docs/bundle-format.md."""
    heads, dim = spec.num_heads, spec.head_dim
    values = g.input("values", (STEPS, SERIES, PATHS))
    following, now = _clock(g, values)
    tokens = _tokens(g, spec, values, now)
    towers = embed(g, tokens, spec, weights)
    rotary = _rotary(g, spec, now)
    mask = g.input("prompt_mask", (SERIES, CONTEXT))
    mask = g.op("Unsqueeze", mask, g.shape(1, 2), scope="mask")
    own_mask = _own_mask(g, values, following)
    place = _cache_places(g, spec, values, now)
    for layer in range(spec.num_layers):
        scope = f"h.{layer}.attn"
        normed = rms_norm(g, towers, f"h.{layer}.rms_1", spec, weights)
        query, key, value = query_key_value(g, normed, layer, spec, weights, rotary, leading=2)
        caches = [
            _append(g, f"{name}_{layer}", new, place, (SERIES, PATHS, heads, STEPS, dim), scope)
            for name, new in (("suffix_key", key), ("suffix_value", value))
        ]
        own = _own_attention(g, query, caches, own_mask, scope)
        prompt_key = g.input(f"prompt_key_{layer}", (SERIES, heads, dim + 1, CONTEXT), g.cached)
        prompt_value = g.input(f"prompt_value_{layer}", (SERIES, heads, CONTEXT, dim), g.cached)
        mixed = joint_attention(
            g, query, own, prompt_key, prompt_value, scope, leading=1, mask=mask
        )
        mixed = g.op("Reshape", mixed, g.shape(0, 0, spec.width), scope=scope)
        towers = attention_output(g, towers, mixed, layer, spec, weights)
        towers = mlp(g, towers, layer, spec, weights)
    arguments = head(g, final_norm(g, towers, spec, weights), tokens, spec, weights)
    drawn = _draw(g, spec, arguments, values, following, now)
    _write_row(g, "arguments", list(arguments.values()), following)
    row = g.op("Unsqueeze", drawn, g.shape(0), scope="draw")
    place = g.op("Unsqueeze", following, g.shape(0), scope="draw")
    found = g.op("ScatterND", values, place, row, scope="draw")
    g.output("next_values", found, (STEPS, SERIES, PATHS))
    g.output("next_step", following, (1,), WHOLE)
    return g.build(metadata)


def _clock(g: GraphBuilder, values: str) -> tuple[str, str]:
    """The step that this launch draws and the one before it, whose token it reads: int64 [1].

    Launches after the last step repeat it, rather than write beyond the buffers. Both follow from
    the output: `step` itself may be overwritten at any time.
    """
    step = g.input("step", (1,), WHOLE)
    following = g.op("Add", step, g.shape(1), scope="step")
    shape = g.op("Shape", values, scope="step")
    steps = g.op("Slice", shape, g.shape(0), g.shape(1), scope="step")
    last = g.op("Sub", steps, g.shape(1), scope="step")
    following = g.op("Min", following, last, scope="step")
    return following, g.op("Sub", following, g.shape(1), scope="step")


def _tokens(g: GraphBuilder, spec: ModelSpec, values: str, now: str) -> str:
    """The tokens of the values of step `now`, [series, paths, features]."""
    scope = "tokens"
    past = [_lagged(g, spec, values, now)]
    if spec.regression:
        past.append(_regression(g, spec, past[0]))
    parts = g.op("Concat", *past, scope=scope, axis=1) if len(past) > 1 else past[0]
    parts = g.op("Transpose", parts, scope=scope, perm=[0, 2, 1])
    rest = g.op("Unsqueeze", g.input("static", (SERIES, spec.num_static)), g.shape(1), scope=scope)
    if spec.num_known:
        known = _row(g, g.input("known", (STEPS, SERIES, spec.num_known)), now, scope)
        known = g.op("Unsqueeze", known, g.shape(1), scope=scope)
        rest = g.op("Concat", rest, known, scope=scope, axis=-1)
    shape = g.op("Shape", values, scope=scope)
    paths = g.op("Slice", shape, g.shape(2), g.shape(3), scope=scope)
    paths = g.op("Concat", g.shape(1), paths, g.shape(1), scope=scope, axis=0)
    return g.op("Concat", parts, g.op("Expand", rest, paths, scope=scope), scope=scope, axis=-1)


def _lagged(g: GraphBuilder, spec: ModelSpec, values: str, now: str) -> str:
    """Scaled values the lags look back on, 0 for absent lags: [series, lags, paths]."""
    scope, count = "lags", spec.num_lags
    lags = g.input("lags", (SERIES, count), WHOLE)
    none = g.shape(0)
    times = g.op("Sub", now, g.op("Max", lags, none, scope=scope), scope=scope)
    row = g.op("Unsqueeze", g.op("Max", times, none, scope=scope), g.shape(-1), scope=scope)
    series = g.op("Unsqueeze", positions(g, lags, 0, scope), g.shape(1, 2), scope=scope)
    series = g.op("Expand", series, g.shape(1, count, 1), scope=scope)
    place = g.op("Concat", row, series, scope=scope, axis=-1)
    lagged = g.op("GatherND", values, place, scope=scope)
    if spec.max_lag:
        before = g.op("Less", times, none, scope=scope)
        place = g.op("Min", times, g.shape(-1), scope=scope)
        place = g.op("Add", place, g.shape(spec.max_lag), scope=scope)
        window = g.input("window", (SERIES, spec.max_lag))
        earlier = g.op("GatherElements", window, place, scope=scope, axis=1)
        before, earlier = (
            g.op("Unsqueeze", x, g.shape(-1), scope=scope) for x in (before, earlier)
        )
        lagged = g.op("Where", before, earlier, lagged, scope=scope)
    absent = g.op("Unsqueeze", g.op("Less", lags, none, scope=scope), g.shape(-1), scope=scope)
    zero = g.constant("zero", np.array([0.0], np.float32))
    return g.op("Where", absent, zero, lagged, scope=scope)


def _regression(g: GraphBuilder, spec: ModelSpec, lagged: str) -> str:
    """What the regression expects next, [series, 1, paths]; no matrix product, which may round."""
    scope, last = "regression", g.shape(-1)
    weights = g.input("regression_weights", (SERIES, spec.num_lags))
    weights = g.op("Unsqueeze", weights, last, scope=scope)
    products = g.op("Mul", lagged, weights, scope=scope)
    total = g.op("ReduceSum", products, g.shape(1), scope=scope, keepdims=1)
    bounds = g.op("Unsqueeze", g.input("regression_bounds", (SERIES, 2)), last, scope=scope)
    low, high = g.ops("Split", 2, bounds, scope=scope, axis=1)  # [series, 1, 1]
    return g.op("Min", g.op("Max", total, low, scope=scope), high, scope=scope)


def _rotary(g: GraphBuilder, spec: ModelSpec, now: str) -> tuple[str, str]:
    """Rotary rows of the step, one a series: [series, 1, ..]."""
    shape = (STEPS, SERIES, spec.head_dim // 2)
    cos, sin = (_row(g, g.input(name, shape), now, "rope") for name in ("cos", "sin"))
    wide = widen_rotary(g, cos, sin, spec)
    cos, sin = (g.op("Unsqueeze", x, g.shape(1), scope="rope") for x in wide)
    return cos, sin


def _own_mask(g: GraphBuilder, values: str, following: str) -> str:
    """[steps]: 0 where a token is, this step's too, and -inf where none is yet."""
    there = g.op("Less", positions(g, values, 0, "mask"), following, scope="mask")
    open_, shut = (
        g.constant(f"mask/{name}", np.array([number], np.float32))
        for name, number in (("open", 0.0), ("shut", -np.inf))
    )
    return g.op("Where", there, open_, shut, scope="mask")


def _cache_places(g: GraphBuilder, spec: ModelSpec, values: str, now: str) -> str:
    """Where every head's key of the step belongs in the caches: int64 [series, paths, heads, 4]."""
    scope, heads = "places", spec.num_heads
    shape = g.op("Shape", values, scope=scope)
    counts = g.op("Slice", shape, g.shape(1), g.shape(3), scope=scope)
    grid = g.op("Concat", counts, g.shape(heads, 1), scope=scope, axis=0)
    series = g.op("Unsqueeze", positions(g, values, 1, scope), g.shape(1, 2, 3), scope=scope)
    paths = g.op("Unsqueeze", positions(g, values, 2, scope), g.shape(1, 2), scope=scope)
    head_numbers = g.constant("places/heads", np.arange(heads, dtype=np.int64)[:, None])
    columns = (series, paths, head_numbers, g.shape(0))
    first = g.op(
        "Concat", *(g.op("Expand", x, grid, scope=scope) for x in columns), scope=scope, axis=-1
    )
    step = g.op("Mul", now, g.shape(0, 0, 0, 1), scope=scope)
    return g.op("Add", first, step, scope=scope)


def _append(
    g: GraphBuilder, name: str, new: str, place: str, shape: tuple[int | str, ...], scope: str
) -> str:
    """A cache with the step's keys or values [series, paths, heads, dim] in their places."""
    cache = g.input(name, shape, g.cached)
    updated = g.op("ScatterND", cache, place, g.to_cache(new, scope), scope=scope)
    return g.output(f"next_{name}", updated, shape, g.cached)


def _own_attention(
    g: GraphBuilder, query: str, caches: list[str], mask: str, scope: str
) -> OwnAttention:
    """Attention of each path over its own tokens, the newest among them."""
    keys, values = caches  # [series, paths, heads, steps, dim]
    last, between = g.shape(-1), g.shape(3)
    scores = g.product(keys, g.op("Unsqueeze", query, last, scope=scope), scope)
    scores = g.op("Add", g.op("Squeeze", scores, last, scope=scope), mask, scope=scope)
    highest, total, share = shares_of(g, scores, scope)
    row = g.product(g.op("Unsqueeze", share, between, scope=scope), values, scope)
    return OwnAttention(highest, total, g.op("Squeeze", row, between, scope=scope))


def _draw(
    g: GraphBuilder,
    spec: ModelSpec,
    arguments: Mapping[str, str],
    values: str,
    following: str,
    now: str,
) -> str:
    """The next values [series, paths]."""
    scope = "draw"
    groups = g.input("groups", (PATHS,), WHOLE)
    dealt = dealt_places(g, _row(g, values, now, scope), groups)
    log_uniform, cosine = (
        g.op(
            "GatherElements",
            _row(g, g.input(name, (STEPS, SERIES, PATHS)), following, scope),
            dealt,
            scope=scope,
            axis=1,
        )
        for name in ("log_uniform", "cosine")
    )
    radius = RADII[spec.head](g, arguments, log_uniform)
    spread = g.op("Mul", radius, cosine, scope=scope)
    spread = g.op("Mul", arguments["scale"], spread, scope=scope)
    drawn = g.op("Add", arguments["loc"], spread, scope=scope)
    floor = g.op("Unsqueeze", g.input("floor", (SERIES,)), g.shape(-1), scope=scope)
    return g.op("Max", drawn, floor, scope=scope)


def _write_row(g: GraphBuilder, name: str, parts: list[str], row: str) -> None:
    """Put [series, paths] parts, side by side, at a row of the cache `name`."""
    shape = (STEPS, len(parts), SERIES, PATHS)
    lifted = [g.op("Unsqueeze", part, g.shape(0, 1), scope=name) for part in parts]
    joined = g.op("Concat", *lifted, scope=name, axis=1)
    place = g.op("Unsqueeze", row, g.shape(0), scope=name)
    updated = g.op("ScatterND", g.input(name, shape), place, joined, scope=name)
    g.output(f"next_{name}", updated, shape)


def _row(g: GraphBuilder, x: str, place: str, scope: str) -> str:
    """One entry of the first axis of x, without it."""
    row = g.op("Gather", x, place, scope=scope, axis=0)
    return g.op("Squeeze", row, g.shape(0), scope=scope)
