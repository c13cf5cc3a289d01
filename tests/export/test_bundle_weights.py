"""Weights read back from a bundle are those it was made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from laglite.bundle import Bundle, Precision, locate, open_bundle
from laglite.errors import BundleError
from laglite.spec import HEAD_GROUPS, ModelSpec
from laglite_export.bundle_weights import load_bundle_model
from laglite_train.checkpoint import load_checkpoint
from laglite_train.model import LagLlama
from tests.conftest import GOLDEN

Export = Callable[[LagLlama, str], Path]


def fresh(spec: ModelSpec) -> LagLlama:
    """Weights of many magnitudes, none equal to another."""
    torch.manual_seed(3)
    model = LagLlama(spec)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.mark.parametrize("head", HEAD_GROUPS)
@pytest.mark.parametrize("head_dim", [16, 6])
def test_a_network_survives_the_way_through_a_bundle(
    small_spec: ModelSpec, export_to: Export, head: str, head_dim: int
) -> None:
    model = fresh(dataclasses.replace(small_spec, head=head, head_dim=head_dim, num_heads=3))
    back = load_bundle_model(open_bundle(export_to(model, f"weights_{head}_{head_dim}")))
    assert back.spec == model.spec
    for name, tensor in model.state_dict().items():
        exact = head_dim == 16 or not name.endswith("q_proj.weight")
        tolerance = 0.0 if exact else 1.2e-7  # one unit in the last place of float32
        torch.testing.assert_close(back.state_dict()[name], tensor, rtol=tolerance, atol=0)


def test_a_network_of_towers_survives_it_too(small_spec: ModelSpec, export_to: Export) -> None:
    towers = {"num_heads": 3, "mlp_width": 40, "towers": ((2, 16), (1, 24)), "head_dim": 16}
    model = fresh(dataclasses.replace(small_spec, residual=True, regression=True, **towers))  # type: ignore[arg-type]
    back = load_bundle_model(open_bundle(export_to(model, "weights_towers")))
    assert back.spec == model.spec
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_checkpoint_and_its_bundle_give_the_same_bundle_again(export_to: Export) -> None:
    model = load_checkpoint(GOLDEN / "lag_llama_tiny.ckpt").model
    first = export_to(model, "lag_llama_tiny")
    again = export_to(load_bundle_model(open_bundle(first)), "lag_llama_tiny_again")
    vectors = [np.load(path / "verify.npz") for path in (first, again)]
    assert vectors[0].files == vectors[1].files
    for name in vectors[0].files:
        if vectors[0][name].dtype.kind == "f":
            np.testing.assert_allclose(vectors[1][name], vectors[0][name], rtol=1e-5, atol=1e-6)


def test_the_shipped_model_can_be_read_back() -> None:
    bundle = open_bundle(locate("base"))
    model = load_bundle_model(bundle)
    assert sum(p.numel() for p in model.parameters()) == bundle.spec.num_parameters


def bundle_of(tiny_bundle: Path, folder: Path, proto: onnx.ModelProto | bytes) -> Bundle:
    """The tiny bundle with another prefill graph."""
    path = folder / "prefill.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    opened = open_bundle(tiny_bundle)
    return dataclasses.replace(
        opened, precisions={"fp32": Precision("fp32", path, path, 1e-4, 0.0)}
    )


def test_a_bundle_of_other_graphs_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    proto = onnx.load(tiny_bundle / "fp32" / "prefill.onnx")
    for tensor in proto.graph.initializer:
        tensor.name = tensor.name.replace("mlp.up", "mlp.wide")
    with pytest.raises(BundleError, match=r"'h\.0\.mlp\.up' is missing; only bundles of laglite"):
        load_bundle_model(bundle_of(tiny_bundle, tmp_path, proto))


def test_weights_of_another_size_are_named(tiny_bundle: Path, tmp_path: Path) -> None:
    proto = onnx.load(tiny_bundle / "fp32" / "prefill.onnx")
    bias = next(t for t in proto.graph.initializer if t.name == "wte.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.ones(2, np.float32), "wte.bias"))
    with pytest.raises(BundleError, match=r"'transformer\.wte\.bias' is \(2,\) where the manifest"):
        load_bundle_model(bundle_of(tiny_bundle, tmp_path, proto))


def test_a_damaged_graph_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"prefill\.onnx: its weights cannot be read"):
        load_bundle_model(bundle_of(tiny_bundle, tmp_path, b"no graph"))


def test_a_bundle_without_float32_is_refused(tiny_bundle: Path) -> None:
    other = dataclasses.replace(open_bundle(tiny_bundle), precisions={})
    with pytest.raises(BundleError, match="no precision 'fp32'"):
        load_bundle_model(other)
