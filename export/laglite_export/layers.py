"""The network's layers as ONNX primitives, shared by all graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def tower_name(spec: ModelSpec, name: str, tower: int) -> str:
    """The name of a matrix that each tower has of its own; of one tower, `name` itself."""
    return f"{name}.{tower}" if spec.towers else name


def tower_weights(spec: ModelSpec, weights: Weights, name: str) -> list[NDArray[np.float32]]:
    """The weight [out, in] of every tower's projection `name`, as PyTorch has it."""
    count = len(spec.tower_sizes)
    return [weights[f"{tower_name(spec, name, tower)}.weight"] for tower in range(count)]


def by_tower(
    spec: ModelSpec, values: NDArray[np.float32], side: int = 0
) -> list[NDArray[np.float32]]:
    """What belongs to each tower of all towers' residual streams (side 0) or MLPs (1)."""
    return np.split(values, np.cumsum([sizes[side] for sizes in spec.tower_sizes])[:-1])


def split(g: GraphBuilder, x: str, sizes: Sequence[int], scope: str) -> list[str]:
    """Parts of x [..., sum of sizes] along its last axis."""
    if len(sizes) == 1:
        return [x]
    return g.ops("Split", len(sizes), x, g.shape(*sizes), scope=scope, axis=-1)


def join(g: GraphBuilder, parts: Sequence[str], scope: str, axis: int = -1) -> str:
    """Parts side by side."""
    return parts[0] if len(parts) == 1 else g.op("Concat", *parts, scope=scope, axis=axis)


def rms_norm(
    g: GraphBuilder, towers: Sequence[str], name: str, spec: ModelSpec, weights: Weights
) -> list[str]:
    """X / sqrt(mean(x^2) + eps) * gain of each tower x [..., width].

    In the pattern that onnxruntime fuses to one kernel.
    """
    gains = by_tower(spec, weights[f"transformer.{name}.scale"])
    return [
        _rms_norm(g, x, tower_name(spec, name, tower), gain)
        for tower, (x, gain) in enumerate(zip(towers, gains, strict=True))
    ]


def _rms_norm(g: GraphBuilder, x: str, name: str, gain: NDArray[np.float32]) -> str:
    square = g.op("Pow", x, g.constant("two", np.array([2.0], np.float32)), scope=name)
    mean = g.op("ReduceMean", square, scope=name, axes=[-1], keepdims=1)
    eps = g.constant("rms_eps", np.array([RMS_EPS], np.float32))
    root = g.op("Sqrt", g.op("Add", mean, eps, scope=name), scope=name)
    return g.op("Mul", g.op("Div", x, root, scope=name), g.weight(name, gain), scope=name)


def embed(g: GraphBuilder, tokens: str, spec: ModelSpec, weights: Weights) -> list[str]:
    """Project tokens [..., features] to each tower's residual stream [..., width]."""
    x = linear(g, tokens, "wte.weight", weights["transformer.wte.weight"], "wte")
    x = g.op("Add", x, g.weight("wte.bias", weights["transformer.wte.bias"]), scope="wte")
    return split(g, x, [width for width, _ in spec.tower_sizes], "wte")


def widen_rotary(g: GraphBuilder, cos: str, sin: str, spec: ModelSpec) -> tuple[str, str]:
    """Repeat rotary rows [tokens, head_dim / 2] for all heads of queries and keys, side by side."""
    repeats = g.shape(1, 2 * spec.num_heads)
    return g.op("Tile", cos, repeats, scope="rope"), g.op("Tile", sin, repeats, scope="rope")


def query_key_value(
    g: GraphBuilder,
    towers: Sequence[str],
    layer: int,
    spec: ModelSpec,
    weights: Weights,
    rotary: tuple[str, str],
    leading: int,
) -> tuple[str, str, str]:
    """Rotated queries (already divided by sqrt(head_dim)), rotated keys, and values.

    Each tower is [..., width] with `leading` axes before the last; each result, of all towers'
    heads, is [..., heads, head_dim]. One product yields the first halves (a) of a tower's queries
    and keys and another the second (b), so that the rotation (a cos - b sin, b cos + a sin) works
    on long rows instead of head_dim / 2 numbers at a time.
    """
    scope = f"h.{layer}.attn"
    prefix = f"transformer.{scope}"
    lead = [0] * leading  # 0: as in the input
    firsts: list[str] = []
    seconds: list[str] = []
    values: list[str] = []
    queries, keys_values = (
        tower_weights(spec, weights, f"{prefix}.{name}") for name in ("q_proj", "kv_proj")
    )
    for tower, x in enumerate(towers):
        query = queries[tower] / np.float32(np.sqrt(spec.head_dim))
        key, value = np.split(keys_values[tower], 2)
        width = query.shape[1]
        halves = np.concatenate([query, key]).reshape(-1, 2, spec.head_dim // 2, width)
        for half, products in enumerate((firsts, seconds)):
            name = tower_name(spec, f"{scope}.qk_{half}", tower)
            products.append(linear(g, x, name, halves[:, half].reshape(-1, width), scope))
        values.append(linear(g, x, tower_name(spec, f"{scope}.v", tower), value, scope))
    a, b = join(g, firsts, scope), join(g, seconds, scope)
    cos, sin = rotary
    first = g.op(
        "Sub", g.op("Mul", a, cos, scope=scope), g.op("Mul", b, sin, scope=scope), scope=scope
    )
    second = g.op(
        "Add", g.op("Mul", b, cos, scope=scope), g.op("Mul", a, sin, scope=scope), scope=scope
    )
    by_head = g.shape(*lead, 2 * spec.num_heads, spec.head_dim // 2)
    rotated = g.op(
        "Concat",
        *(g.op("Reshape", half, by_head, scope=scope) for half in (first, second)),
        scope=scope,
        axis=-1,
    )
    found, keys = _queries_and_keys(g, rotated, spec, scope)
    shape = g.shape(*lead, spec.num_heads, spec.head_dim)
    return found, keys, g.op("Reshape", join(g, values, scope), shape, scope=scope)


def _queries_and_keys(
    g: GraphBuilder, rotated: str, spec: ModelSpec, scope: str
) -> tuple[str, str]:
    """Those of all towers, of each tower's queries and keys in turn [..., 2 x heads, head_dim]."""
    if not spec.towers:
        queries, keys = g.ops("Split", 2, rotated, scope=scope, axis=-2)
        return queries, keys
    sizes = g.shape(*(heads for heads, _ in spec.towers for _ in range(2)))
    parts = g.ops("Split", 2 * len(spec.towers), rotated, sizes, scope=scope, axis=-2)
    return join(g, parts[::2], scope, -2), join(g, parts[1::2], scope, -2)


def not_denormal(g: GraphBuilder, scores: str, own: str, scope: str) -> str:
    """Scores [.., tokens] before a softmax, none more than 70 below a token's `own` [.., 1].

    Shares too small for a normal number make a CPU's softmax several times slower, and those of
    masked tokens are; raised to this bound they are as good as none in float32.
    """
    least = g.constant("least_score", np.array([LEAST_SCORE], np.float32))
    return g.op("Max", scores, g.op("Add", own, least, scope=scope), scope=scope)


def attention_output(
    g: GraphBuilder,
    towers: Sequence[str],
    mixed: str,
    layer: int,
    spec: ModelSpec,
    weights: Weights,
) -> list[str]:
    """Project the heads' mix [..., width of all] and add it to each tower's residual stream."""
    scope = f"h.{layer}.attn"
    parts = split(g, mixed, [width for width, _ in spec.tower_sizes], scope)
    matrices = tower_weights(spec, weights, f"transformer.{scope}.c_proj")
    added = []
    for tower, (x, part, matrix) in enumerate(zip(towers, parts, matrices, strict=True)):
        out = linear(g, part, tower_name(spec, f"{scope}.out", tower), matrix, scope)
        added.append(g.op("Add", x, out, scope=scope))
    return added


def mlp(
    g: GraphBuilder, towers: Sequence[str], layer: int, spec: ModelSpec, weights: Weights
) -> list[str]:
    """X + c_proj(silu(c_fc1 n) * c_fc2 n) of each tower x, n the normalised x."""
    scope = f"h.{layer}.mlp"
    normalised = rms_norm(g, towers, f"h.{layer}.rms_2", spec, weights)

    def projected(x: str, name: str, source: str, tower: int) -> str:
        matrix = tower_weights(spec, weights, f"transformer.{scope}.{source}")[tower]
        return linear(g, x, tower_name(spec, f"{scope}.{name}", tower), matrix, scope)

    added = []
    for tower, (x, normed) in enumerate(zip(towers, normalised, strict=True)):
        gate = projected(normed, "gate", "c_fc1", tower)
        up = projected(normed, "up", "c_fc2", tower)
        silu = g.op("Mul", gate, g.op("Sigmoid", gate, scope=scope), scope=scope)
        hidden = g.op("Mul", silu, up, scope=scope)
        down = projected(hidden, "down", "c_proj", tower)
        added.append(g.op("Add", x, down, scope=scope))
    return added


def final_norm(g: GraphBuilder, towers: Sequence[str], spec: ModelSpec, weights: Weights) -> str:
    """The states [..., width of all] that the head reads and that embeddings are."""
    return join(g, rms_norm(g, towers, "ln_f", spec, weights), "ln_f")


def head(g: GraphBuilder, x: str, tokens: str, spec: ModelSpec, weights: Weights) -> dict[str, str]:
    """One projection of the states an argument, domain map: the arguments by name, each [...].

    `x` are the states of `final_norm`, `tokens` [..., features] what the network read: some models
    predict the change from it.
    """
    # Padded to whole vectors of columns: elementwise kernels round elements that do not fill a
    # vector differently, and samples would depend on how many paths are decoded together.
    used = len(spec.arguments) + spec.num_gates
    columns = -(-used // VECTOR) * VECTOR
    rows = np.zeros((columns, spec.width), np.float32)
    bias = np.zeros(columns, np.float32)
    for index in range(len(spec.arguments)):
        rows[index] = weights[f"param_proj.proj.{index}.weight"][0]
        bias[index] = weights[f"param_proj.proj.{index}.bias"][0]
    if spec.regression:  # gates come after the arguments
        rows[len(spec.arguments) : used] = weights["regression_gate.weight"]
        bias[len(spec.arguments) : used] = weights["regression_gate.bias"]
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

    `raw` [..., columns] are the head's outputs, gates after the arguments.
    """
    if not spec.residual:
        return None
    scope = "head.anchor"
    value = _column(g, tokens, 0, scope)
    if not spec.regression:
        return value
    shares = g.op("Sigmoid", raw, scope=scope)
    share = _column(g, shares, len(spec.arguments), scope)
    for gate in range(1, spec.num_gates):
        other = _column(g, shares, len(spec.arguments) + gate, scope)
        share = g.op("Add", share, other, scope=scope)
    if spec.num_gates > 1:
        count = g.constant("head.anchor/gates", np.array(1 / spec.num_gates, np.float32))
        share = g.op("Mul", share, count, scope=scope)
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
