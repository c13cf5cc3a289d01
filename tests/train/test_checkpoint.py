"""Reading checkpoints: the published format without GluonTS, and files that must be refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from laglite.errors import CheckpointError
from laglite.spec import ModelSpec
from laglite_train.checkpoint import load_checkpoint
from laglite_train.model import LagLlama

GOLDEN = Path(__file__).parents[1] / "golden"
STUDENT_T = "gluonts.torch.distributions.studentT.StudentTOutput"
LOSS = "gluonts.torch.modules.loss.NegativeLogLikelihood"
SPEC = ModelSpec(1, 1, 4, 256, (0, 1, 2, 5), context_length=8, max_context_length=64)
KWARGS = {
    "n_layer": 1,
    "n_head": 1,
    "n_embd_per_head": 4,
    "lags_seq": [0, 1, 2, 5],
    "scaling": "robust",
    "time_feat": True,
    "input_size": 1,
    "context_length": 8,
    "max_context_length": 64,
    "rope_scaling": None,
}
Weights = dict[str, torch.Tensor]


class Payload:
    """Unpickled without care, it calls `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def payloads(marker: Path) -> dict[str, Payload]:
    """Attacks that would all create `marker`, by the name an error must tell."""
    return {
        "system": Payload(os.system, f"echo > '{marker}'"),
        "eval": Payload(eval, f"open({str(marker)!r}, 'w').close()"),
        "Popen": Payload(subprocess.Popen, ["touch", str(marker)]),
    }


def weights() -> Weights:
    torch.manual_seed(0)
    return {f"model.{name}": tensor for name, tensor in LagLlama(SPEC).state_dict().items()}


def save_published(
    path: Path,
    state: Any = None,
    distribution: str = STUDENT_T,
    beside: Any = None,
    **changes: Any,
) -> Path:
    """Write a file as Lag-Llama does, under GluonTS's class names though it is not installed."""
    with pytest.MonkeyPatch.context() as patch:

        def instance(name: str) -> Any:
            parts = name.split(".")
            for depth in range(1, len(parts)):
                module = ".".join(parts[:depth])
                if module not in sys.modules:
                    patch.setitem(sys.modules, module, ModuleType(module))
            home = sys.modules[".".join(parts[:-1])]
            if not hasattr(home, parts[-1]):
                setattr(home, parts[-1], type(parts[-1], (), {"__module__": home.__name__}))
            built = getattr(home, parts[-1])()
            built.beta = 0.0
            return built

        kwargs = {**KWARGS, "distr_output": instance(distribution), **changes}
        hyper = {"model_kwargs": kwargs, "loss": instance(LOSS), "lr": 1e-3, "beside": beside}
        state = weights() if state is None else state
        torch.save({"epoch": 3, "state_dict": state, "hyper_parameters": hyper}, path)
    assert not any(name.startswith("gluonts") for name in sys.modules)
    return path


def test_a_published_checkpoint_is_read_without_gluonts() -> None:
    assert importlib.util.find_spec("gluonts") is None
    checkpoint = load_checkpoint(GOLDEN / "lag_llama_tiny_rope_linear.ckpt")
    spec = checkpoint.model.spec
    assert checkpoint.origin == "lag-llama"
    assert not checkpoint.model.training
    assert (spec.num_layers, spec.num_heads, spec.head_dim, spec.mlp_width) == (2, 2, 16, 256)
    assert (len(spec.lags), spec.lags[0], spec.max_lag, spec.num_features) == (84, 0, 1092, 92)
    assert (spec.head, spec.scaling, spec.history, spec.calendar) == (
        "studentT",
        "robust",
        "zeros",
        True,
    )
    assert (spec.rope_scaling, spec.rope_factor) == ("linear", 4.0)
    assert (spec.context_length, spec.max_context_length) == (128, 2048)


def test_no_rope_scaling_in_a_published_checkpoint_is_none() -> None:
    spec = load_checkpoint(GOLDEN / "lag_llama_tiny.ckpt").model.spec
    assert (spec.rope_scaling, spec.rope_factor, spec.context_length) == ("none", 1.0, 32)


@pytest.mark.parametrize(
    ("name", "head", "arguments"),
    [
        ("studentT.StudentTOutput", "studentT", 3),
        ("student_t.StudentTOutput", "studentT", 3),
        ("distribution_output.NormalOutput", "normal", 2),
        ("negative_binomial.NegativeBinomialOutput", "neg_bin", 2),
    ],
)
def test_each_known_head_is_recognised_by_its_class(
    tmp_path: Path, name: str, head: str, arguments: int
) -> None:
    state = {key: w for key, w in weights().items() if arguments == 3 or "proj.2." not in key}
    file = save_published(tmp_path / "a.ckpt", state, f"gluonts.torch.distributions.{name}")
    model = load_checkpoint(file).model
    assert model.spec.head == head
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[f"model.{key}"], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["system", "eval", "Popen"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "raw"])
def test_a_pickle_that_calls_a_function_is_refused_before_it_runs(
    tmp_path: Path, name: str, kind: str
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    payload = payloads(marker)[name]
    if kind == "raw":
        path.write_bytes(pickle.dumps(payload, protocol=2))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError, match=rf"evil\.ckpt: refused.*\b{name}\b"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["system", "eval", "Popen"])
@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_a_pickle_of_any_other_protocol_is_refused_before_it_runs(
    tmp_path: Path, name: str, protocol: int
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": payloads(marker)[name]}, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"evil\.ckpt: (refused|not a readable checkpoint)"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["system", "eval", "Popen"])
def test_a_function_hidden_beside_valid_weights_is_refused_before_it_runs(
    tmp_path: Path, name: str
) -> None:
    marker = tmp_path / "marker"
    file = save_published(tmp_path / "evil.ckpt", beside=[{"x": payloads(marker)[name]}])
    with pytest.raises(CheckpointError, match=rf"evil\.ckpt: refused.*\b{name}\b"):
        load_checkpoint(file)
    assert not marker.exists()


def test_the_payloads_would_run_if_they_were_loaded_without_care(tmp_path: Path) -> None:
    """So that the refusals above say something: the same bytes do create the marker."""
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(payloads(marker)["system"]))
    assert marker.exists()


def test_a_gluonts_class_that_is_not_on_the_list_is_refused_by_name(tmp_path: Path) -> None:
    name = "gluonts.torch.distributions.beta.BetaOutput"
    with pytest.raises(CheckpointError, match=r"a\.ckpt: refused.*beta\.BetaOutput"):
        load_checkpoint(save_published(tmp_path / "a.ckpt", distribution=name))


def without(name: str) -> Weights:
    return {key: tensor for key, tensor in weights().items() if key != name}


WTE = "model.transformer.wte.weight"
NAN = {**weights(), WTE: torch.full((4, 12), float("nan"))}
INF = {**weights(), WTE: torch.full((4, 12), float("inf"))}
LARGE = {**weights(), WTE: torch.full((4, 12), 1e200, dtype=torch.float64)}


def nested(depth: int) -> list[Any]:
    """Lists of lists of 2 ** depth words, of which no more than `depth` are stored."""
    value: list[Any] = ["word"]
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": without(WTE)}, r"'transformer\.wte\.weight' is missing"),
        ({"state": {**weights(), WTE: "text"}}, r"'transformer\.wte\.weight' is missing"),
        ({"state": {**weights(), "model.extra": torch.ones(1)}}, r"unknown weight 'extra'"),
        (
            {"state": {**weights(), WTE: torch.ones(4, 13)}},
            r"'transformer\.wte\.weight' is \(4, 13\) .*\(4, 12\)",
        ),
        ({"state": NAN}, r"'transformer\.wte\.weight' holds values that are not finite"),
        ({"state": INF}, r"'transformer\.wte\.weight' holds values that are not finite"),
        ({"state": LARGE}, r"'transformer\.wte\.weight' holds values that are not finite"),
        ({"state": {**weights(), WTE: torch.ones(4, 12).int()}}, r"holds int32 values"),
        ({"state": {**weights(), WTE: torch.ones(4, 12) * 1j}}, r"holds complex64 values"),
        ({"state": [torch.ones(1)]}, r"not a Lag-Llama or laglite checkpoint"),
        ({"state": {1: torch.ones(1)}}, r"missing|not a Lag-Llama or laglite checkpoint"),
        ({"distribution": LOSS}, r"distribution head is not supported.*neg_bin.*studentT"),
        ({"distr_output": None}, r"distribution head is not supported"),
        ({"input_size": 2}, r"input_size is 2; only univariate"),
        ({"n_layer": 2}, r"h\.1\..*missing"),
        ({"n_layer": "two"}, r"n_layer must be a whole number, not 'two'"),
        ({"n_embd_per_head": 3}, r"head_dim must be even"),
        ({"n_head": 2**40}, r"its settings describe [\d,]+ weights, more than its [\d,]+ bytes"),
        ({"n_layer": 2**40}, r"its settings describe [\d,]+ weights, more than its [\d,]+ bytes"),
        ({"context_length": 2**40}, r"lags and context reach more than 1,048,576 steps back"),
        ({"lags_seq": [0, 1, 2, 2**40]}, r"lags and context reach more than 1,048,576 steps back"),
        ({"lags_seq": [0, 1, 2, 5.5]}, r"lags_seq must be a list of whole numbers"),
        ({"n_head": [1]}, r"n_head must be a whole number, not \[1\]"),
        ({"max_context_length": None}, r"max_context_length must be a whole number, not None"),
        ({"n_layer": nested(40)}, r"n_layer must be a whole number"),
        ({"scaling": nested(40)}, r"scaling \[\[.* is not known"),
        ({"scaling": "iqr"}, r"scaling 'iqr' is not known; one of: robust, mean, std, none"),
        ({"scaling": "magic"}, r"scaling 'magic' is not known"),
        ({"lags_seq": [2, 1]}, r"lags must be distinct"),
        ({"lags_seq": ["Q", "M"]}, r"lags|not a Lag-Llama"),
        ({"rope_scaling": {"type": "spiral", "factor": 2.0}}, r"rope_scaling 'spiral'"),
        ({"rope_scaling": {"type": "linear", "factor": "big"}}, r"factor|not a Lag-Llama"),
        ({"rope_scaling": "linear"}, r"not a Lag-Llama or laglite checkpoint"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_architecture_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"a\.ckpt: .*({message})"):
        load_checkpoint(save_published(tmp_path / "a.ckpt", **changes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_real_kind_become_single_precision(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    state = {name: tensor.to(dtype) for name, tensor in weights().items()}
    model = load_checkpoint(save_published(tmp_path / "a.ckpt", state)).model
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[f"model.{key}"].float(), rtol=0, atol=0)


def test_a_learning_rate_of_numpy_does_not_matter(tmp_path: Path) -> None:
    file = save_published(tmp_path / "a.ckpt", beside=np.logspace(-4, -2, 3)[1])
    assert load_checkpoint(file).model.spec == dataclasses.replace(SPEC, max_context_length=2048)


@pytest.mark.parametrize(
    ("rope", "context", "given", "positions"),
    [
        (None, 8, 4, 2048),  # the size of a table that grows
        ({"type": "linear", "factor": 2.0}, 2000, 64, 4000),
        ({"type": "nope", "factor": None}, 8, 4096, 4096),
        ({"type": "dynamic", "factor": 2.0}, 8, 4, None),  # from here on the base grows
        ({"type": "dynamic", "factor": 2.0}, 8, 64, None),
    ],
)
def test_positions_are_limited_by_no_published_setting(
    tmp_path: Path, rope: Any, context: int, given: int, positions: int | None
) -> None:
    changes = {"rope_scaling": rope, "context_length": context, "max_context_length": given}
    spec = load_checkpoint(save_published(tmp_path / "a.ckpt", **changes)).model.spec
    assert (spec.context_length, spec.max_positions) == (context, positions)
    assert positions is not None or spec.max_context_length == given


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (Payload(bytearray, 10**11), r"\w+\.bytearray"),
        (Payload(torch.Tensor, 10**11), r"torch\.Tensor"),
        (torch.ones(2, device="meta"), r"torch\._utils\._rebuild_meta_tensor_no_storage"),
        (torch.eye(2).to_sparse(), r"torch\._utils\._rebuild_sparse_tensor"),
    ],
    ids=["bytearray", "Tensor", "meta", "sparse"],
)
def test_what_torch_would_build_beside_plain_tensors_is_refused_by_name(
    tmp_path: Path, content: Any, name: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"a\.ckpt: refused.* refers to .*{name}"):
        load_checkpoint(save_published(tmp_path / "a.ckpt", beside=content))


@pytest.mark.parametrize("member", ["data.pkl", "data/0"])
def test_a_file_that_unpacks_to_more_than_it_holds_is_refused(tmp_path: Path, member: str) -> None:
    path = tmp_path / "bomb.ckpt"
    with (
        zipfile.ZipFile(save_published(tmp_path / "a.ckpt")) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            large = name.endswith(member)
            target.writestr(name, bytes(10_000_000) if large else source.read(name))
    with pytest.raises(CheckpointError, match=r"bomb\.ckpt: refused: it unpacks to more than its"):
        load_checkpoint(path)


def test_a_changed_byte_among_the_weights_is_damage(tmp_path: Path) -> None:
    path = save_published(tmp_path / "a.ckpt")
    content = bytearray(path.read_bytes())
    content[content.index(weights()[WTE].numpy().tobytes())] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r"a\.ckpt: not a readable checkpoint.*damaged"):
        load_checkpoint(path)


def test_names_in_a_message_cannot_steer_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"\x80\x02c\x1b[31m\nred\n.")
    with pytest.raises(CheckpointError, match=r"refers to '\\x1b\[31m\.red'"):
        load_checkpoint(path)


@pytest.mark.parametrize("kept", [0, 10, 5_000, 128_000, 255_900])
def test_a_truncated_file_is_damaged(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "part.ckpt"
    path.write_bytes((GOLDEN / "lag_llama_tiny.ckpt").read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"part\.ckpt: not a readable checkpoint.*damaged"):
        load_checkpoint(path)


def test_a_text_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "notes.ckpt"
    path.write_text("learning rate: 0.001\n")
    with pytest.raises(CheckpointError, match=r"notes\.ckpt: not a readable checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a checkpoint"),
        ({"weights": 1}, "not a Lag-Llama or laglite checkpoint.*state_dict"),
        ({"state_dict": {}, "hyper_parameters": 3}, "not a Lag-Llama or laglite checkpoint"),
        ({"state_dict": {}, "hyper_parameters": {"format": "laglite"}}, "spec"),
        ({"state_dict": {}, "hyper_parameters": {"format": "laglite", "spec": {}}}, "num_layers"),
    ],
)
def test_other_content_is_not_a_checkpoint(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=rf"other\.ckpt: .*{message}"):
        load_checkpoint(tmp_path / "other.ckpt")


@pytest.mark.parametrize(("name", "reason"), [("", "directory"), ("none.ckpt", "No such file")])
def test_a_path_that_is_no_file_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=f"cannot be read .*{reason}"):
        load_checkpoint(tmp_path / name)
