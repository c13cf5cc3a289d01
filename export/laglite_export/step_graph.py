"""The decoder step graph: one token for every path, over a prompt that all paths share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx

from laglite.spec import ModelSpec
from laglite_export.graph_builder import GraphBuilder
from laglite_export.layers import (
    Weights,
    attention_output,
    embed,
    final_norm,
    head,
    mlp,
    not_denormal,
    query_key_value,
    rms_norm,
    widen_rotary,
)


def build_step(
    g: GraphBuilder, spec: ModelSpec, weights: Weights, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Build the graph; its inputs and outputs are specified in docs/bundle-format.md."""
    heads, dim = spec.num_heads, spec.head_dim
    tokens = g.input("tokens", ("paths", spec.num_features))
    x = embed(g, tokens, weights)
    cos, sin = g.input("cos", (1, dim // 2)), g.input("sin", (1, dim // 2))
    rotary = widen_rotary(g, cos, sin, spec)
    mask = g.input("suffix_mask", ("capacity",))
    for layer in range(spec.num_layers):
        scope = f"h.{layer}.attn"
        normed = rms_norm(g, x, f"h.{layer}.rms_1", weights[f"transformer.h.{layer}.rms_1.scale"])
        query, key, value = query_key_value(g, normed, layer, spec, weights, rotary, leading=1)
        suffix_key = g.input(f"suffix_key_{layer}", ("paths", heads, "capacity", dim))
        suffix_value = g.input(f"suffix_value_{layer}", ("paths", heads, "capacity", dim))
        own = _own_attention(g, query, key, value, suffix_key, suffix_value, mask, scope)
        prompt_key = g.input(f"prompt_key_{layer}", (heads, dim + 1, "context + 1"))
        prompt_value = g.input(f"prompt_value_{layer}", (heads, "context + 1", dim))
        mixed = _joint_attention(g, query, own, prompt_key, prompt_value, scope)
        mixed = g.op("Reshape", mixed, g.shape(0, spec.width), scope=scope)
        x = attention_output(g, x, mixed, layer, weights)
        x = mlp(g, x, layer, weights)
        g.output(f"new_key_{layer}", key, ("paths", heads, dim))
        g.output(f"new_value_{layer}", value, ("paths", heads, dim))
    head(g, final_norm(g, x, weights), tokens, spec, weights, ("paths",))
    return g.build(metadata)


class OwnAttention(NamedTuple):
    """A path's attention over its own tokens, and what it needs to join the prompt's.

    The highest score m and the total of exp(score - m), both [paths, heads, 1], and the mix of
    values under the own softmax, [paths, heads, dim].
    """

    highest: str
    total: str
    mixed: str


def _own_attention(
    g: GraphBuilder,
    query: str,
    key: str,
    value: str,
    suffix_key: str,
    suffix_value: str,
    mask: str,
    scope: str,
) -> OwnAttention:
    """Attention of each path over the suffix in the cache and its new token."""
    last, between = g.shape(-1), g.shape(2)
    column = g.op("Unsqueeze", query, last, scope=scope)
    cached = g.op("MatMul", suffix_key, column, scope=scope)  # [paths, heads, capacity, 1]
    cached = g.op("Add", g.op("Squeeze", cached, last, scope=scope), mask, scope=scope)
    product = g.op("Mul", query, key, scope=scope)
    itself = g.op("ReduceSum", product, last, scope=scope, keepdims=1)
    scores = g.op("Concat", itself, cached, scope=scope, axis=-1)  # [paths, heads, 1 + capacity]
    scores = not_denormal(g, scores, itself, scope)
    highest = g.op("ReduceMax", scores, scope=scope, axes=[-1], keepdims=1)
    share = g.op("Softmax", scores, scope=scope, axis=-1)
    # The largest share is exp(0) / total. A sum would do, but its rounding depends on where a
    # path lies in memory, and samples must not.
    largest = g.op("ReduceMax", share, scope=scope, axes=[-1], keepdims=1)
    total = g.op("Reciprocal", largest, scope=scope)
    first = g.op("Slice", share, g.shape(0), g.shape(1), between, scope=scope)
    end = g.constant("end", np.array([np.iinfo(np.int64).max]))
    rest = g.op("Slice", share, g.shape(1), end, between, scope=scope)
    row = g.op("MatMul", g.op("Unsqueeze", rest, between, scope=scope), suffix_value, scope=scope)
    mixed = g.op("Squeeze", row, between, scope=scope)
    mixed = g.op("Add", mixed, g.op("Mul", first, value, scope=scope), scope=scope)
    return OwnAttention(highest, total, mixed)


def _joint_attention(
    g: GraphBuilder,
    query: str,
    own: OwnAttention,
    prompt_key: str,
    prompt_value: str,
    scope: str,
) -> str:
    """One softmax over the prompt and a path's own tokens, without copying either.

    The prompt's keys have no path axis: scores are [heads, paths, dim + 1] x [heads, dim + 1,
    1 + context]. Their bordered first column receives the path's highest own score m, so that a
    softmax over the row gives shares p of the prompt and e = exp(m) / (exp(m) + sum exp(prompt)).
    With t the own total, the joint mix is (p . values + e * t * own) / (1 + e * (t - 1)), whose
    divisor is at least 1. Returns [paths, heads, dim].
    """
    extended = g.op("Concat", query, own.highest, scope=scope, axis=-1)
    extended = g.op("Transpose", extended, scope=scope, perm=[1, 0, 2])
    scores = g.op("MatMul", extended, prompt_key, scope=scope)  # [heads, paths, 1 + context]
    share = g.op("Softmax", scores, scope=scope, axis=-1)
    prompt = g.op("MatMul", share, prompt_value, scope=scope)
    prompt = g.op("Transpose", prompt, scope=scope, perm=[1, 0, 2])
    edge = g.op("Slice", share, g.shape(0), g.shape(1), g.shape(2), scope=scope)
    edge = g.op("Transpose", edge, scope=scope, perm=[1, 0, 2])
    one = g.constant("one", np.array([1.0], np.float32))
    rest = g.op("Sub", own.total, one, scope=scope)
    divisor = g.op("Add", g.op("Mul", edge, rest, scope=scope), one, scope=scope)
    own_share = g.op("Mul", edge, own.total, scope=scope)
    mixed = g.op("Add", prompt, g.op("Mul", own_share, own.mixed, scope=scope), scope=scope)
    return g.op("Div", mixed, divisor, scope=scope)
