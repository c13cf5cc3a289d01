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
from laglite_train.model import LagLlama

Array = NDArray[np.float32]
PRECISION = "fp32"


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
        "transformer.ln_f.scale": stored["ln_f"],
    }
    for layer in range(spec.num_layers):
        block = f"h.{layer}"
        query, key = _query_key(spec, stored, f"{block}.attn")
        parts = {
            "rms_1.scale": stored[f"{block}.rms_1"],
            "rms_2.scale": stored[f"{block}.rms_2"],
            "attn.q_proj.weight": query,
            "attn.kv_proj.weight": np.concatenate([key, stored[f"{block}.attn.v"].T]),
            "attn.c_proj.weight": stored[f"{block}.attn.out"].T,
            "mlp.c_fc1.weight": stored[f"{block}.mlp.gate"].T,
            "mlp.c_fc2.weight": stored[f"{block}.mlp.up"].T,
            "mlp.c_proj.weight": stored[f"{block}.mlp.down"].T,
        }
        state.update({f"transformer.{block}.{name}": array for name, array in parts.items()})
    if spec.regression:
        gate = len(spec.arguments)
        state["regression_gate.weight"] = stored["head.weight"].T[gate : gate + 1]
        state["regression_gate.bias"] = stored["head.bias"][gate : gate + 1]
    for index in range(len(spec.arguments)):
        state[f"param_proj.proj.{index}.weight"] = stored["head.weight"].T[index : index + 1]
        state[f"param_proj.proj.{index}.bias"] = stored["head.bias"][index : index + 1]
    return state


def _query_key(spec: ModelSpec, stored: dict[str, Array], scope: str) -> tuple[Array, Array]:
    """Query and key matrices [width, width] from the first and second halves of all heads."""
    halves = [
        stored[f"{scope}.qk_{half}"].T.reshape(2 * spec.num_heads, spec.head_dim // 2, spec.width)
        for half in (0, 1)
    ]
    both = np.stack(halves, axis=1).reshape(2, spec.width, spec.width)
    return both[0] * np.float32(np.sqrt(spec.head_dim)), both[1]
