"""Quantisation: the layers' matrices and their inputs in 8 bits, with ranges measured beforehand.

Ranges found anew for each batch would tie a path's numbers to the paths decoded beside it; fixed
ones leave the same samples for any number of threads. Matrices have a scale for each column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode
from laglite_export.graph_builder import GraphBuilder, WeightFile
from laglite_export.layers import by_tower, tower_name
from laglite_train.model import LagLlama
from laglite_train.synthetic import draw_series

# Products of one byte with and one without a sign are summed in pairs of 16 bits on x86 without
# VNNI: 2 * 255 * 64 fits, larger weights would silently saturate there.
WEIGHT_LEVELS = 64
INPUT_LEVELS, INPUT_ZERO = 127, 128
MIGRATION = 0.7  # the share, as a power, of an input's magnitude that its weights take over
SERIES_A_FREQUENCY = 8
FREQUENCIES = ("h", "D", "MS", "15min", "W", "YS")
SEED = 0


class Int8Builder(GraphBuilder):
    """A graph whose matrices with known input ranges are 8-bit, as ONNX's QDQ pairs."""

    def __init__(self, name: str, weights: WeightFile, ranges: Mapping[str, float]) -> None:
        super().__init__(name, weights)
        self._ranges = ranges
        self._rounded: dict[str, str] = {}

    def linear(self, x: str, name: str, matrix: NDArray[np.float32], scope: str) -> str:
        """X [..., in] times matrix [in, out]."""
        if name not in self._ranges:
            return super().linear(x, name, matrix, scope)
        if x not in self._rounded:  # several matrices may read one input
            scale = np.float32(self._ranges[name] / INPUT_LEVELS)
            unit = (
                self.constant(f"{name}/input_scale", scale),
                self.constant("input_zero", np.uint8(INPUT_ZERO)),
            )
            levels = self.op("QuantizeLinear", x, *unit, scope=scope)
            self._rounded[x] = self.op("DequantizeLinear", levels, *unit, scope=scope)
        whole, scales = quantise(matrix)
        restored = self.op(
            "DequantizeLinear",
            self.weight(name, whole),
            self.weight(f"{name}/scales", scales),
            self.constant(f"zeros_{len(scales)}", np.zeros(len(scales), np.int8)),
            scope=scope,
            axis=1,
        )
        return self.op("MatMul", self._rounded[x], restored, scope=scope)


def quantise(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers [in, out] from -64 to 64, and what one is worth in each column [out]."""
    largest = np.abs(matrix).max(axis=0)
    scales = np.where(largest > 0, largest / WEIGHT_LEVELS, 1.0).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def input_magnitudes(model: LagLlama) -> dict[str, NDArray[np.float32]]:
    """The largest magnitude of each input [in] of the layers' projections, over synthetic series.

    Keys are their names in PyTorch; inputs are those of all towers.
    """
    largest: dict[str, NDArray[np.float32]] = {}
    hooks = []
    blocks: Iterable[Any] = model.transformer["h"].children()
    for layer, block in enumerate(blocks):
        for part in ("attn.q_proj", "attn.c_proj", "mlp.c_fc1", "mlp.c_proj"):
            keep = _keep_largest(f"transformer.h.{layer}.{part}", largest)
            hooks.append(block.get_submodule(part).register_forward_pre_hook(keep))
    try:
        with torch.no_grad():
            for tokens in _calibration_tokens(model.spec):
                model(torch.from_numpy(tokens)[None])
    finally:
        for hook in hooks:
            hook.remove()
    return largest


def balance(
    model: LagLlama, weights: Mapping[str, NDArray[np.float32]]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """Weights of the same function whose inputs suit one range, and these ranges.

    A few inputs of `attn.c_proj` and `mlp.c_proj` are hundreds of times larger than the others, and
    one step for all would round those away. So most of their magnitude moves to the weights behind
    them (SmoothQuant, Xiao et al. 2023, eq. 4), and the matrix before is divided by it: values and
    the ungated half are linear in it. Ranges are keyed by the names of weights in the graphs (see
    `layers`); the embedding, whose features have unlike magnitudes, and the head have none and
    stay float32.
    """
    magnitudes = input_magnitudes(model)
    balanced, ranges = dict(weights), {}
    spec = model.spec
    for layer in range(spec.num_layers):
        block, scope = f"transformer.h.{layer}", f"h.{layer}"
        for part, before, ends, name in (
            ("attn.c_proj", "attn.kv_proj", 0, "attn.out"),
            ("mlp.c_proj", "mlp.c_fc2", 1, "mlp.down"),
        ):
            seen_by = by_tower(spec, magnitudes[f"{block}.{part}"], ends)
            for tower, seen in enumerate(seen_by):
                key, source = (
                    f"{tower_name(spec, f'{block}.{at}', tower)}.weight" for at in (part, before)
                )
                reach = np.abs(balanced[key]).max(axis=0)  # [in]
                used = (seen > 0) & (reach > 0)
                moved = seen[used] ** MIGRATION / reach[used] ** (1 - MIGRATION)
                factor = np.ones_like(seen)
                factor[used] = moved
                balanced[key] = balanced[key] * factor
                rows = balanced[source].copy()
                rows[-len(seen) :] /= factor[:, None]  # of kv_proj, the values alone
                balanced[source] = rows
                ranges[tower_name(spec, f"{scope}.{name}", tower)] = float((seen / factor).max())
        for part, readers in (
            ("attn.q_proj", ("attn.qk_0", "attn.qk_1", "attn.v")),
            ("mlp.c_fc1", ("mlp.gate", "mlp.up")),
        ):
            for tower, seen in enumerate(by_tower(spec, magnitudes[f"{block}.{part}"])):
                for name in readers:
                    ranges[tower_name(spec, f"{scope}.{name}", tower)] = float(seen.max())
    return balanced, ranges


def _keep_largest(
    name: str, largest: dict[str, NDArray[np.float32]]
) -> Callable[[nn.Module, tuple[Tensor]], None]:
    def hook(_: nn.Module, inputs: tuple[Tensor]) -> None:
        found = inputs[0].abs().flatten(0, -2).amax(dim=0).numpy()
        largest[name] = np.maximum(largest.get(name, found), found)

    return hook


def _calibration_tokens(spec: ModelSpec) -> list[NDArray[np.float32]]:
    """Prompts [tokens, features] of synthetic series at several frequencies."""
    random = np.random.default_rng(SEED)
    length = spec.max_lag + 2 * spec.context_length + 8
    prompts = []
    for freq in FREQUENCIES:
        for _ in range(SERIES_A_FREQUENCY):
            start = np.datetime64("2001-01-01T00:00:00", "us")
            series = draw_series(random, length, freq, start).astype(np.float64)
            if np.isnan(series[-spec.context_length :]).all():
                continue
            axis = TimeAxis.of(start, freq)
            prompts.append(encode(spec, series, axis, spec.context_length).tokens)
    return prompts
