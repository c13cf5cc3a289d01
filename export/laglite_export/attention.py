"""Attention of paths over their own tokens and a prompt that they share, as one exact softmax."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from laglite_export.graph_builder import GraphBuilder


class OwnAttention(NamedTuple):
    """A path's attention over its own tokens, and what it needs to join the prompt's.

    The highest score m and the total of exp(score - m), both [.., paths, heads, 1], and the mix of
    values under the own softmax, [.., paths, heads, dim].
    """

    highest: str
    total: str
    mixed: str


def shares_of(g: GraphBuilder, scores: str, scope: str) -> tuple[str, str, str]:
    """The `highest` and `total` of OwnAttention, and the softmax, of scores [.., tokens]."""
    highest = g.op("ReduceMax", scores, scope=scope, axes=[-1], keepdims=1)
    share = g.op("Softmax", scores, scope=scope, axis=-1)
    # The largest share is exp(0) / total. A sum would do, but its rounding depends on where a
    # path lies in memory, and samples must not.
    largest = g.op("ReduceMax", share, scope=scope, axes=[-1], keepdims=1)
    total = g.op("Reciprocal", largest, scope=scope)
    rounded = g.rounded(highest, scope)
    if rounded != highest:  # the total belongs to the score that the prompt's product will take
        over = g.op("Exp", g.op("Sub", highest, rounded, scope=scope), scope=scope)
        total = g.op("Mul", total, over, scope=scope)
    return rounded, total, share


def joint_attention(
    g: GraphBuilder,
    query: str,
    own: OwnAttention,
    prompt_key: str,
    prompt_value: str,
    scope: str,
    *,
    leading: int = 0,
    mask: str | None = None,
) -> str:
    """One softmax over the prompt and a path's own tokens, without copying either.

    Queries are [.., paths, heads, dim], with `leading` axes before the paths. The prompt's keys
    have no path axis: scores are [.., heads, paths, dim + 1] x [.., heads, dim + 1, 1 + context].
    Their bordered first column receives the path's highest own score m, so that a softmax over the
    row gives shares p of the prompt and e = exp(m) / (exp(m) + sum exp(prompt)). With t the own
    total, the joint mix is (p . values + e * t * own) / (1 + e * (t - 1)), whose divisor is
    positive. `mask`, which is added to the scores, leaves places of the prompt out. Returns
    [.., paths, heads, dim].
    """
    swap = [*range(leading), leading + 1, leading, leading + 2]
    extended = g.op("Concat", query, own.highest, scope=scope, axis=-1)
    extended = g.op("Transpose", extended, scope=scope, perm=swap)
    scores = g.product(extended, prompt_key, scope)  # [.., heads, paths, 1 + context]
    if mask is not None:
        scores = g.op("Add", scores, mask, scope=scope)
    share = g.op("Softmax", scores, scope=scope, axis=-1)
    prompt = g.product(share, prompt_value, scope)
    prompt = g.op("Transpose", prompt, scope=scope, perm=swap)
    edge = g.op("Slice", share, g.shape(0), g.shape(1), g.shape(leading + 2), scope=scope)
    edge = g.op("Transpose", edge, scope=scope, perm=swap)
    one = g.constant("one", np.array([1.0], np.float32))
    rest = g.op("Sub", own.total, one, scope=scope)
    divisor = g.op("Add", g.op("Mul", edge, rest, scope=scope), one, scope=scope)
    own_share = g.op("Mul", edge, own.total, scope=scope)
    mixed = g.op("Add", prompt, g.op("Mul", own_share, own.mixed, scope=scope), scope=scope)
    return g.op("Div", mixed, divisor, scope=scope)
