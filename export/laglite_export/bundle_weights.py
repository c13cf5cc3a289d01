"""The way back: a bundle's float32 graphs to the PyTorch network they were exported from."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from laglite.bundle import Bundle
from laglite.errors import BundleError
from laglite.spec import ModelSpec
from laglite_export.layers import tower_name
from laglite_train.model import LagLlama

Array = NDArray[np.float32]
PRECISION = "fp32"
MATRICES = ("attn.qk_0", "attn.qk_1", "attn.v", "attn.out", "mlp.gate", "mlp.up", "mlp.down")


def load_bundle_model(bundle: Bundle) -> LagLlama:
    """The network of a bundle, every weight as before its export.

    Queries, which the graphs hold divided by sqrt(head_dim), are exact where that is a power of
    two, and else within 1 unit in the last place. Raises BundleError if the bundle has no fp32
    precision, or if its weights are not those of its own specification.
    """
    path = bundle.precision(PRECISION).prefill
    try:
        proto = onnx.load(path)
        stored = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer
        }
        state = _state(bundle.spec, stored)
    except (DecodeError, OSError, ValueError, IndexError, onnx.checker.ValidationError) as error:
        raise BundleError(f"{path}: its weights cannot be read ({error})") from error
    except KeyError as error:
        raise BundleError(
            f"{path}: weight {error} is missing; only bundles of laglite export can be read back"
        ) from error
    model = LagLlama(bundle.spec)
    for name, wanted in model.state_dict().items():
        found = state[name]
        if found.shape != tuple(wanted.shape) or not np.isfinite(found).all():
            raise BundleError(
                f"{path}: weight {name!r} is {found.shape} where the manifest says "
                f"{tuple(wanted.shape)}, or holds values that are not finite"
            )
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
    return model.eval()


def _state(spec: ModelSpec, stored: dict[str, Array]) -> dict[str, Array]:
    """Undo `laglite_export.layers`: names, transposes, joined and scaled matrices."""
    state = {
        "transformer.wte.weight": stored["wte.weight"].T,
        "transformer.wte.bias": stored["wte.bias"],
    }
    names = ["ln_f"]
    for layer in range(spec.num_layers):
        names += [f"h.{layer}.rms_1", f"h.{layer}.rms_2"]
        state.update(_layer(spec, stored, f"h.{layer}"))
    towers = range(len(spec.tower_sizes))
    for name in names:
        gains = [stored[tower_name(spec, name, tower)] for tower in towers]
        state[f"transformer.{name}.scale"] = np.concatenate(gains)
    if spec.regression:
        gates = slice(len(spec.arguments), len(spec.arguments) + spec.num_gates)
        state["regression_gate.weight"] = stored["head.weight"].T[gates]
        state["regression_gate.bias"] = stored["head.bias"][gates]
    for index in range(len(spec.arguments)):
        state[f"param_proj.proj.{index}.weight"] = stored["head.weight"].T[index : index + 1]
        state[f"param_proj.proj.{index}.bias"] = stored["head.bias"][index : index + 1]
    return state


def _layer(spec: ModelSpec, stored: dict[str, Array], block: str) -> dict[str, Array]:
    """The projections of a layer."""
    state = {}
    for tower, (width, _) in enumerate(spec.tower_sizes):
        found: dict[str, Array] = {
            name: stored[tower_name(spec, f"{block}.{name}", tower)].T for name in MATRICES
        }
        halves = [
            found[f"attn.qk_{half}"].reshape(-1, spec.head_dim // 2, width) for half in (0, 1)
        ]
        query, key = np.stack(halves, axis=1).reshape(2, width, width)
        parts = {
            "attn.q_proj": query * np.float32(np.sqrt(spec.head_dim)),
            "attn.kv_proj": np.concatenate([key, found["attn.v"]]),
            "attn.c_proj": found["attn.out"],
            "mlp.c_fc1": found["mlp.gate"],
            "mlp.c_fc2": found["mlp.up"],
            "mlp.c_proj": found["mlp.down"],
        }
        for name, array in parts.items():
            state[f"transformer.{tower_name(spec, f'{block}.{name}', tower)}.weight"] = array
    return state
