"""The decoder step graph: one token for every path, over a prompt that all paths share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from laglite.spec import ModelSpec
from laglite_export.attention import OwnAttention, joint_attention, shares_of
from laglite_export.graph_builder import GraphBuilder
from laglite_export.layers import (
    Weights,
    attention_output,
    declare,
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
    towers = embed(g, tokens, spec, weights)
    cos, sin = g.input("cos", (1, dim // 2)), g.input("sin", (1, dim // 2))
    rotary = widen_rotary(g, cos, sin, spec)
    mask = g.input("suffix_mask", ("capacity",))
    for layer in range(spec.num_layers):
        scope = f"h.{layer}.attn"
        normed = rms_norm(g, towers, f"h.{layer}.rms_1", spec, weights)
        query, key, value = query_key_value(g, normed, layer, spec, weights, rotary, leading=1)
        suffix_key = g.input(f"suffix_key_{layer}", ("paths", heads, "capacity", dim), g.cached)
        suffix_value = g.input(f"suffix_value_{layer}", ("paths", heads, "capacity", dim), g.cached)
        own = _own_attention(g, query, key, value, suffix_key, suffix_value, mask, scope)
        prompt_key = g.input(f"prompt_key_{layer}", (heads, dim + 1, "context + 1"), g.cached)
        prompt_value = g.input(f"prompt_value_{layer}", (heads, "context + 1", dim), g.cached)
        mixed = joint_attention(g, query, own, prompt_key, prompt_value, scope)
        mixed = g.op("Reshape", mixed, g.shape(0, spec.width), scope=scope)
        towers = attention_output(g, towers, mixed, layer, spec, weights)
        towers = mlp(g, towers, layer, spec, weights)
        for name, new in (("new_key", key), ("new_value", value)):
            g.output(f"{name}_{layer}", g.to_cache(new, scope), ("paths", heads, dim), g.cached)
    declare(g, head(g, final_norm(g, towers, spec, weights), tokens, spec, weights), ("paths",))
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
) -> OwnAttention:
    """Attention of each path over the suffix in the cache and its new token."""
    last, between = g.shape(-1), g.shape(2)
    column = g.op("Unsqueeze", query, last, scope=scope)
    cached = g.product(suffix_key, column, scope)  # [paths, heads, capacity, 1]
    cached = g.op("Add", g.op("Squeeze", cached, last, scope=scope), mask, scope=scope)
    product = g.op("Mul", query, key, scope=scope)
    itself = g.op("ReduceSum", product, last, scope=scope, keepdims=1)
    scores = g.op("Concat", itself, cached, scope=scope, axis=-1)  # [paths, heads, 1 + capacity]
    scores = not_denormal(g, scores, itself, scope)
    highest, total, share = shares_of(g, scores, scope)
    first = g.op("Slice", share, g.shape(0), g.shape(1), between, scope=scope)
    end = g.constant("end", np.array([np.iinfo(np.int64).max]))
    rest = g.op("Slice", share, g.shape(1), end, between, scope=scope)
    row = g.product(g.op("Unsqueeze", rest, between, scope=scope), suffix_value, scope)
    mixed = g.op("Squeeze", row, between, scope=scope)
    mixed = g.op("Add", mixed, g.op("Mul", first, value, scope=scope), scope=scope)
    return OwnAttention(highest, total, mixed)
