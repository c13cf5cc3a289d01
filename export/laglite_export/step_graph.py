"""The decoder step graph: one token for every path, over a prompt that all paths share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from laglite.spec import ModelSpec

from laglite_export.graph_builder import GraphBuilder, WeightFile
from laglite_export.layers import (
    Weights,
    attention_output,
    embed,
    head,
    mlp,
    query_key_value,
    rms_norm,
    rotate,
)


def build_step(
    spec: ModelSpec, weights: Weights, file: WeightFile, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Build the graph; its inputs and outputs are specified in docs/bundle-format.md."""
    g = GraphBuilder("step", file)
    heads, dim = spec.num_heads, spec.head_dim
    x = embed(g, g.input("tokens", ("paths", spec.num_features)), weights)
    cos, sin = g.input("cos", (1, dim // 2)), g.input("sin", (1, dim // 2))
    mask = g.input("suffix_mask", ("capacity",))
    for layer in range(spec.num_layers):
        scope = f"h.{layer}.attn"
        normed = rms_norm(g, x, f"h.{layer}.rms_1", weights[f"transformer.h.{layer}.rms_1.scale"])
        query, key, value = (
            g.op("Reshape", part, g.shape(0, heads, dim), scope=scope)  # [paths, heads, dim]
            for part in query_key_value(g, normed, layer, spec, weights)
        )
        query, key = rotate(g, query, cos, sin, scope), rotate(g, key, cos, sin, scope)
        suffix_key = g.input(f"suffix_key_{layer}", ("paths", heads, dim, "capacity"))
        suffix_value = g.input(f"suffix_value_{layer}", ("paths", heads, "capacity", dim))
        own, weight = _own_attention(g, query, key, value, suffix_key, suffix_value, mask, scope)
        mixed = _joint_attention(
            g,
            query,
            own,
            weight,
            g.input(f"prompt_key_{layer}", (heads, dim + 1, "context + 1")),
            g.input(f"prompt_value_{layer}", (heads, "context + 1", dim)),
            scope,
        )
        mixed = g.op("Reshape", mixed, g.shape(0, spec.width), scope=scope)
        x = attention_output(g, x, mixed, layer, weights)
        x = mlp(g, x, layer, weights)
        g.output(f"new_key_{layer}", key, ("paths", heads, dim))
        g.output(f"new_value_{layer}", value, ("paths", heads, dim))
    head(g, x, spec, weights, ("paths",))
    return g.build(metadata)


def _own_attention(
    g: GraphBuilder,
    query: str,
    key: str,
    value: str,
    suffix_key: str,
    suffix_value: str,
    mask: str,
    scope: str,
) -> tuple[str, str]:
    """Attention of each path over its own tokens: the suffix in the cache and the new one.

    Returns the mix [paths, heads, dim] and the log of the sum of exponentials of its scores
    [paths, heads, 1], by which it joins the prompt's part.
    """
    axes = g.shape(-1)
    row = g.op("Unsqueeze", query, g.shape(2), scope=scope)
    cached = g.op("MatMul", row, suffix_key, scope=scope)  # [paths, heads, 1, capacity]
    cached = g.op("Squeeze", g.op("Add", cached, mask, scope=scope), g.shape(2), scope=scope)
    product = g.op("Mul", query, key, scope=scope)
    itself = g.op("ReduceSum", product, axes, scope=scope, keepdims=1)
    scores = g.op("Concat", itself, cached, scope=scope, axis=-1)  # [paths, heads, 1 + capacity]
    highest = g.op("ReduceMax", scores, scope=scope, axes=[-1], keepdims=1)
    powers = g.op("Exp", g.op("Sub", scores, highest, scope=scope), scope=scope)
    total = g.op("ReduceSum", powers, axes, scope=scope, keepdims=1)
    share = g.op("Div", powers, total, scope=scope)
    log_total = g.op("Add", highest, g.op("Log", total, scope=scope), scope=scope)
    end = g.constant("end", np.array([np.iinfo(np.int64).max]))
    first = g.op("Slice", share, g.shape(0), g.shape(1), g.shape(2), scope=scope)
    rest = g.op("Slice", share, g.shape(1), end, g.shape(2), scope=scope)
    rest = g.op("Unsqueeze", rest, g.shape(2), scope=scope)
    mixed = g.op("Squeeze", g.op("MatMul", rest, suffix_value, scope=scope), g.shape(2), scope=scope)
    mixed = g.op("Add", mixed, g.op("Mul", first, value, scope=scope), scope=scope)
    return mixed, log_total


def _joint_attention(
    g: GraphBuilder, query: str, own: str, own_log: str, prompt_key: str, prompt_value: str, scope: str
) -> str:
    """One softmax over prompt and own tokens, without copying either.

    The prompt's keys have no path axis: scores are [heads, paths, dim + 1] x [heads, dim + 1,
    1 + context]. The bordered first column receives the own part's log-sum-exp, so its share is
    the own part's share. Returns [paths, heads, dim].
    """
    extended = g.op("Concat", query, own_log, scope=scope, axis=-1)
    extended = g.op("Transpose", extended, scope=scope, perm=[1, 0, 2])
    scores = g.op("MatMul", extended, prompt_key, scope=scope)  # [heads, paths, 1 + context]
    share = g.op("Softmax", scores, scope=scope, axis=-1)
    prompt = g.op("MatMul", share, prompt_value, scope=scope)
    own_share = g.op("Slice", share, g.shape(0), g.shape(1), g.shape(2), scope=scope)
    prompt = g.op("Transpose", prompt, scope=scope, perm=[1, 0, 2])
    own_share = g.op("Transpose", own_share, scope=scope, perm=[1, 0, 2])
    return g.op("Add", prompt, g.op("Mul", own, own_share, scope=scope), scope=scope)
