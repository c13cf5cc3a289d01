"""The network's layers as ONNX primitives, shared by all graphs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from laglite.spec import HEAD_GROUPS, ModelSpec
from laglite_export.graph_builder import GraphBuilder
from laglite_train.distributions import FLOAT32_EPS, LEAST_SHARE, LEAST_SLOPE, TOTAL

Weights = Mapping[str, NDArray[np.float32]]
RMS_EPS = 1e-5
LEAST_SCORE = -70.0  # below a token's own: a share of at most 4e-31
VECTOR = 16  # float32 numbers in the widest vector of a CPU


def linear(g: GraphBuilder, x: str, name: str, matrix: NDArray[np.float32], scope: str) -> str:
    """X times the transpose of a torch weight [out, in]; x is [..., in]."""
    return g.linear(x, name, matrix.T, scope)


def rms_norm(g: GraphBuilder, x: str, name: str, gain: NDArray[np.float32]) -> str:
    """X / sqrt(mean(x^2) + eps) * gain, in the pattern that onnxruntime fuses to one kernel."""
    square = g.op("Pow", x, g.constant("two", np.array([2.0], np.float32)), scope=name)
    mean = g.op("ReduceMean", square, scope=name, axes=[-1], keepdims=1)
    eps = g.constant("rms_eps", np.array([RMS_EPS], np.float32))
    root = g.op("Sqrt", g.op("Add", mean, eps, scope=name), scope=name)
    return g.op("Mul", g.op("Div", x, root, scope=name), g.weight(name, gain), scope=name)


def embed(g: GraphBuilder, tokens: str, weights: Weights) -> str:
    """Project tokens [..., features] to the residual stream [..., width]."""
    x = linear(g, tokens, "wte.weight", weights["transformer.wte.weight"], "wte")
    return g.op("Add", x, g.weight("wte.bias", weights["transformer.wte.bias"]), scope="wte")


def widen_rotary(g: GraphBuilder, cos: str, sin: str, spec: ModelSpec) -> tuple[str, str]:
    """Repeat rotary rows [tokens, head_dim / 2] for all heads of queries and keys, side by side."""
    repeats = g.shape(1, 2 * spec.num_heads)
    return g.op("Tile", cos, repeats, scope="rope"), g.op("Tile", sin, repeats, scope="rope")


def query_key_value(
    g: GraphBuilder,
    x: str,
    layer: int,
    spec: ModelSpec,
    weights: Weights,
    rotary: tuple[str, str],
    leading: int,
) -> tuple[str, str, str]:
    """Rotated queries (already divided by sqrt(head_dim)), rotated keys, and values.

    x is [..., width] with `leading` axes before the last; each result is [..., heads, head_dim].
    One product yields the first halves (a) of all heads' queries and keys and another the second
    (b), so that the rotation (a cos - b sin, b cos + a sin) works on long rows instead of
    head_dim / 2 numbers at a time.
    """
    scope = f"h.{layer}.attn"
    prefix = f"transformer.{scope}"
    lead = [0] * leading  # 0: as in the input
    query = weights[f"{prefix}.q_proj.weight"] / np.float32(np.sqrt(spec.head_dim))
    key, value = np.split(weights[f"{prefix}.kv_proj.weight"], 2)
    halves = np.concatenate([query, key]).reshape(2 * spec.num_heads, 2, spec.head_dim // 2, -1)
    a, b = (
        linear(g, x, f"{scope}.qk_{half}", halves[:, half].reshape(spec.width, -1), scope)
        for half in (0, 1)
    )
    cos, sin = rotary
    first = g.op(
        "Sub", g.op("Mul", a, cos, scope=scope), g.op("Mul", b, sin, scope=scope), scope=scope
    )
    second = g.op(
        "Add", g.op("Mul", b, cos, scope=scope), g.op("Mul", a, sin, scope=scope), scope=scope
    )
    by_head = g.shape(*lead, 2 * spec.num_heads, spec.head_dim // 2)
    joined = g.op(
        "Concat",
        *(g.op("Reshape", half, by_head, scope=scope) for half in (first, second)),
        scope=scope,
        axis=-1,
    )
    queries, keys = g.ops("Split", 2, joined, scope=scope, axis=-2)
    values = linear(g, x, f"{scope}.v", value, scope)
    shape = g.shape(*lead, spec.num_heads, spec.head_dim)
    return queries, keys, g.op("Reshape", values, shape, scope=scope)


def not_denormal(g: GraphBuilder, scores: str, own: str, scope: str) -> str:
    """Scores [.., tokens] before a softmax, none more than 70 below a token's `own` [.., 1].

    Shares too small for a normal number make a CPU's softmax several times slower, and those of
    masked tokens are; raised to this bound they are as good as none in float32.
    """
    least = g.constant("least_score", np.array([LEAST_SCORE], np.float32))
    return g.op("Max", scores, g.op("Add", own, least, scope=scope), scope=scope)


def attention_output(g: GraphBuilder, x: str, mixed: str, layer: int, weights: Weights) -> str:
    """Project the heads' mix [..., width] and add it to the residual stream."""
    scope = f"h.{layer}.attn"
    out = linear(g, mixed, f"{scope}.out", weights[f"transformer.{scope}.c_proj.weight"], scope)
    return g.op("Add", x, out, scope=scope)


def mlp(g: GraphBuilder, x: str, layer: int, weights: Weights) -> str:
    """X + c_proj(silu(c_fc1 n) * c_fc2 n), n the normalised x."""
    scope = f"h.{layer}.mlp"
    prefix = f"transformer.{scope}"
    normed = rms_norm(g, x, f"h.{layer}.rms_2", weights[f"transformer.h.{layer}.rms_2.scale"])
    gate = linear(g, normed, f"{scope}.gate", weights[f"{prefix}.c_fc1.weight"], scope)
    up = linear(g, normed, f"{scope}.up", weights[f"{prefix}.c_fc2.weight"], scope)
    silu = g.op("Mul", gate, g.op("Sigmoid", gate, scope=scope), scope=scope)
    hidden = g.op("Mul", silu, up, scope=scope)
    down = linear(g, hidden, f"{scope}.down", weights[f"{prefix}.c_proj.weight"], scope)
    return g.op("Add", x, down, scope=scope)


def final_norm(g: GraphBuilder, x: str, weights: Weights) -> str:
    """The states [..., width] that the head reads and that embeddings are."""
    return rms_norm(g, x, "ln_f", weights["transformer.ln_f.scale"])


def head(g: GraphBuilder, x: str, tokens: str, spec: ModelSpec, weights: Weights) -> dict[str, str]:
    """One projection of the states an argument, domain map: the arguments by name, each [...].

    `x` are the states of `final_norm`, `tokens` [..., features] what the network read: some models
    predict the change from it.
    """
    # Padded to whole vectors of columns: elementwise kernels round elements that do not fill a
    # vector differently, and samples would depend on how many paths are decoded together.
    used = len(spec.arguments) + (1 if spec.regression else 0)
    columns = -(-used // VECTOR) * VECTOR
    rows = np.zeros((columns, spec.width), np.float32)
    bias = np.zeros(columns, np.float32)
    for index in range(len(spec.arguments)):
        rows[index] = weights[f"param_proj.proj.{index}.weight"][0]
        bias[index] = weights[f"param_proj.proj.{index}.bias"][0]
    if spec.regression:  # the gate comes after the arguments
        rows[used - 1] = weights["regression_gate.weight"][0]
        bias[used - 1] = weights["regression_gate.bias"][0]
    raw = linear(g, x, "head.weight", rows, "head")
    raw = g.op("Add", raw, g.weight("head.bias", bias), scope="head")
    positive = g.op("Softplus", raw, scope="head")
    anchor = _anchor(g, raw, tokens, spec)
    arguments: dict[str, str] = {}
    first = 0
    for kind, count in HEAD_GROUPS[spec.head].items():
        # Shares are a matrix of their own; other maps are elementwise and keep all columns.
        shift = first if kind in LEAST_SHARE else 0
        mapped = _domain_map(g, raw, positive, kind, first, count)
        for index in range(first, first + count):
            argument = spec.arguments[index]
            value = _column(g, mapped, index - shift, f"head.{argument}")
            if kind == "loc" and anchor is not None:
                value = g.op("Add", value, anchor, scope=f"head.{argument}")
            arguments[argument] = value
        first += count
    return arguments


def declare(g: GraphBuilder, arguments: Mapping[str, str], shape: tuple[str, ...]) -> None:
    """Make a head's arguments the graph's `param_*` outputs."""
    for name, value in arguments.items():
        g.output(f"param_{name}", value, shape)


def _anchor(g: GraphBuilder, raw: str, tokens: str, spec: ModelSpec) -> str | None:
    """What is added to every loc, [...]: lag 0 or a point between it and the regression, or None.

    `raw` [..., columns] are the head's outputs, the gate after the arguments.
    """
    if not spec.residual:
        return None
    scope = "head.anchor"
    value = _column(g, tokens, 0, scope)
    if not spec.regression:
        return value
    share = _column(g, g.op("Sigmoid", raw, scope=scope), len(spec.arguments), scope)
    step = g.op("Sub", _column(g, tokens, spec.num_lags, scope), value, scope=scope)
    return g.op("Add", value, g.op("Mul", share, step, scope=scope), scope=scope)


def _column(g: GraphBuilder, x: str, place: int, scope: str) -> str:
    """One entry [...] of the last axis of x [..., columns]."""
    column = g.constant(f"column_{place}", np.array(place, np.int64))
    return g.op("Gather", x, column, scope=scope, axis=-1)


def _domain_map(g: GraphBuilder, raw: str, positive: str, kind: str, first: int, count: int) -> str:
    """The map of `laglite_train.distributions.domain_map` for one kind of argument.

    Raw outputs and their softplus, `positive`, are [..., columns]; so is the result, but for
    shares, which are [..., count].
    """
    scope = f"head.{kind}"
    if kind in ("loc", "logits"):
        return raw
    if kind in LEAST_SHARE:
        least, total = LEAST_SHARE[kind], TOTAL[kind]
        part = g.op("Slice", raw, g.shape(first), g.shape(first + count), g.shape(-1), scope=scope)
        share = g.op("Softmax", part, scope=scope, axis=-1)
        return _affine(g, share, total * (1 - count * least), total * least, scope)
    if kind == "slope":
        share = g.op("Sigmoid", raw, scope=scope)
        return _affine(g, share, 2 - 2 * LEAST_SLOPE, LEAST_SLOPE, scope)
    if kind == "df":
        return g.op("Add", positive, g.constant("df_floor", np.float32(2.0)), scope=scope)
    if kind == "scale":
        floor = g.constant("scale_floor", np.float32(FLOAT32_EPS))
        return g.op("Max", positive, floor, scope=scope)
    return positive


def _affine(g: GraphBuilder, x: str, factor: float, shift: float, scope: str) -> str:
    """X * factor + shift."""
    product = g.op("Mul", x, g.constant(f"{scope}/factor", np.float32(factor)), scope=scope)
    return g.op("Add", product, g.constant(f"{scope}/shift", np.float32(shift)), scope=scope)
