"""The prefill graph: one pass over prompts for all positions' distributions and the prompt KV."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from laglite.spec import ModelSpec
from laglite_export.graph_builder import GraphBuilder
from laglite_export.layers import (
    Weights,
    attention_output,
    embed,
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
    half = spec.head_dim // 2
    tokens = g.input("tokens", ("series", "context", spec.num_features))
    x = embed(g, tokens, weights)
    cos, sin = g.input("cos", ("context", half)), g.input("sin", ("context", half))
    mask, rotary = _causal_mask(g, cos), widen_rotary(g, cos, sin, spec)
    key_shape = ("series", spec.num_heads, spec.head_dim + 1, "context + 1")
    value_shape = ("series", spec.num_heads, "context + 1", spec.head_dim)
    for layer in range(spec.num_layers):
        scope = f"h.{layer}.attn"
        normed = rms_norm(g, x, f"h.{layer}.rms_1", weights[f"transformer.h.{layer}.rms_1.scale"])
        query, key, value = (
            g.op("Transpose", part, scope=scope, perm=[0, 2, 1, 3])  # [series, heads, context, dim]
            for part in query_key_value(g, normed, layer, spec, weights, rotary, leading=2)
        )
        product = g.op("Mul", query, key, scope=scope)
        own = g.op("ReduceSum", product, g.shape(-1), scope=scope, keepdims=1)
        key = g.op("Transpose", key, scope=scope, perm=[0, 1, 3, 2])
        scores = g.op("Add", g.op("MatMul", query, key, scope=scope), mask, scope=scope)
        scores = not_denormal(g, scores, own, scope)
        share = g.op("Softmax", scores, scope=scope, axis=-1)
        mixed = g.op("MatMul", share, value, scope=scope)
        mixed = g.op("Transpose", mixed, scope=scope, perm=[0, 2, 1, 3])
        mixed = g.op("Reshape", mixed, g.shape(0, 0, spec.width), scope=scope)
        x = attention_output(g, x, mixed, layer, weights)
        x = mlp(g, x, layer, weights)
        g.output(f"prompt_key_{layer}", _border_key(g, key, scope), key_shape)
        g.output(f"prompt_value_{layer}", _border_value(g, value, scope), value_shape)
    head(g, x, tokens, spec, weights, ("series", "context"))
    return g.build(metadata)


def _causal_mask(g: GraphBuilder, cos: str) -> str:
    """[context, context]: 0 where a token may look, -inf above the diagonal."""
    length = g.op("Slice", g.op("Shape", cos, scope="mask"), g.shape(0), g.shape(1), scope="mask")
    square = g.op("Concat", length, length, scope="mask", axis=0)
    value = onnx.numpy_helper.from_array(np.array([-np.inf], np.float32))
    blocked = g.op("ConstantOfShape", square, scope="mask", value=value)
    above = g.constant("mask/above", np.array(1, np.int64))
    return g.op("Trilu", blocked, above, scope="mask", upper=1)


def _border_key(g: GraphBuilder, key: str, scope: str) -> str:
    """Keys [.., head_dim, context] with a first column and a last row of 0, but 1 where they meet.

    A query extended by a number c then scores c on that column: the step's place for the path's
    own part of the softmax.
    """
    column = g.op("Pad", key, g.shape(0, 0, 0, 1, 0, 0, 0, 0), scope=scope)
    first_row = g.op("Slice", key, g.shape(0), g.shape(1), g.shape(2), scope=scope)
    zeros = g.op("Mul", first_row, g.constant("zero", np.float32(0.0)), scope=scope)
    one = g.constant("one", np.float32(1.0))
    row = g.op("Pad", zeros, g.shape(0, 0, 0, 1, 0, 0, 0, 0), one, scope=scope)
    return g.op("Concat", column, row, scope=scope, axis=2)


def _border_value(g: GraphBuilder, value: str, scope: str) -> str:
    """Values [.., context, head_dim] with a first row of 0, for the keys' first column."""
    return g.op("Pad", value, g.shape(0, 0, 1, 0, 0, 0, 0, 0), scope=scope)
