"""The prefill graph: a pass over a piece of prompts, after the pieces before it.

It yields all positions' distributions and states, and the keys and values of the pieces so far.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from laglite.spec import ModelSpec
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


def build_prefill(
    g: GraphBuilder, spec: ModelSpec, weights: Weights, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Build the graph; its inputs and outputs are specified in docs/bundle-format.md."""
    heads, dim = spec.num_heads, spec.head_dim
    tokens = g.input("tokens", ("series", "tokens", spec.num_features))
    towers = embed(g, tokens, spec, weights)
    cos, sin = g.input("cos", ("tokens", dim // 2)), g.input("sin", ("tokens", dim // 2))
    rotary = widen_rotary(g, cos, sin, spec)
    mask = ""
    for layer in range(spec.num_layers):
        past_key = g.input(f"past_key_{layer}", ("series", heads, dim + 1, "past + 1"), g.cached)
        past_value = g.input(f"past_value_{layer}", ("series", heads, "past + 1", dim), g.cached)
        mask = mask or _causal_mask(g, cos, past_key)
        scope = f"h.{layer}.attn"
        normed = rms_norm(g, towers, f"h.{layer}.rms_1", spec, weights)
        query, key, value = (
            g.op("Transpose", part, scope=scope, perm=[0, 2, 1, 3])  # [series, heads, tokens, dim]
            for part in query_key_value(g, normed, layer, spec, weights, rotary, leading=2)
        )
        product = g.op("Mul", query, key, scope=scope)
        own = g.op("ReduceSum", product, g.shape(-1), scope=scope, keepdims=1)
        query, key = _pad_row(g, query, scope), _pad_row(g, key, scope)
        key = g.op("Transpose", key, scope=scope, perm=[0, 1, 3, 2])
        keys = g.op("Concat", past_key, g.to_cache(key, scope), scope=scope, axis=3)
        values = g.op("Concat", past_value, g.to_cache(value, scope), scope=scope, axis=2)
        scores = g.op("Add", g.product(query, keys, scope), mask, scope=scope)
        scores = not_denormal(g, scores, own, scope)
        share = g.op("Softmax", scores, scope=scope, axis=-1)
        mixed = g.product(share, values, scope)
        mixed = g.op("Transpose", mixed, scope=scope, perm=[0, 2, 1, 3])
        mixed = g.op("Reshape", mixed, g.shape(0, 0, spec.width), scope=scope)
        towers = attention_output(g, towers, mixed, layer, spec, weights)
        towers = mlp(g, towers, layer, spec, weights)
        length = "past + tokens + 1"
        g.output(f"prompt_key_{layer}", keys, ("series", heads, dim + 1, length), g.cached)
        g.output(f"prompt_value_{layer}", values, ("series", heads, length, dim), g.cached)
    states = final_norm(g, towers, spec, weights)
    declare(g, head(g, states, tokens, spec, weights), ("series", "tokens"))
    g.output("hidden", states, ("series", "tokens", spec.width))
    return g.build(metadata)


def _causal_mask(g: GraphBuilder, cos: str, past_key: str) -> str:
    """[tokens, 1 + past + tokens]: 0 where a token may look, -inf at the border and later tokens.

    `cos` [tokens, ..] and `past_key` [.., 1 + past] tell the lengths.
    """
    scope, first = "mask", g.shape(0)
    length = g.op("Slice", g.op("Shape", cos, scope=scope), first, g.shape(1), scope=scope)
    past = g.op("Slice", g.op("Shape", past_key, scope=scope), g.shape(3), g.shape(4), scope=scope)
    past = g.op("Sub", past, g.shape(1), scope=scope)
    columns = g.op("Add", past, length, scope=scope)
    later = _blocked(g, g.op("Concat", length, columns, scope=scope, axis=0))
    above = g.op("Squeeze", g.op("Add", past, g.shape(1), scope=scope), scope=scope)
    later = g.op("Trilu", later, above, scope=scope, upper=1)
    border = _blocked(g, g.op("Concat", length, g.shape(1), scope=scope, axis=0))
    return g.op("Concat", border, later, scope=scope, axis=1)


def _blocked(g: GraphBuilder, shape: str) -> str:
    """-inf in a given shape."""
    value = onnx.numpy_helper.from_array(np.array([-np.inf], np.float32))
    return g.op("ConstantOfShape", shape, scope="mask", value=value)


def _pad_row(g: GraphBuilder, x: str, scope: str) -> str:
    """Queries or keys [.., tokens, head_dim] with a 0 at the end of each, the border's row."""
    return g.op("Pad", x, g.shape(0, 0, 0, 0, 0, 0, 0, 1), scope=scope)
