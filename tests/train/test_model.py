"""The network against the published implementation's numbers, and its parts against formulas."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from laglite.rope import rotary_tables
from laglite.spec import ROPE_SCALINGS, ModelSpec
from laglite_train.checkpoint import load_checkpoint
from laglite_train.distributions import negative_log_likelihood
from laglite_train.model import MLP, CausalSelfAttention, LagLlama, RMSNorm

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ("lag_llama_tiny", "lag_llama_tiny_rope_linear")
SPEC = ModelSpec(2, 2, 4, 8, (0, 1, 2, 5), context_length=8, max_context_length=8, rope_factor=2.0)


def golden_case(name: str) -> tuple[LagLlama, dict[str, torch.Tensor]]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    return load_checkpoint(GOLDEN / f"{name}.ckpt").model, arrays


def fresh(spec: ModelSpec) -> LagLlama:
    torch.manual_seed(5)
    model = LagLlama(spec)
    model.initialise()
    return model.eval()


def run(model: LagLlama, tokens: torch.Tensor) -> torch.Tensor:
    """All arguments, [arguments, batch, tokens]."""
    with torch.no_grad():
        return torch.stack(list(model(tokens).values()))


def prompt(spec: ModelSpec, length: int) -> torch.Tensor:
    return torch.randn(2, length, spec.num_features, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", CASES)
def test_distribution_arguments_are_those_of_the_published_implementation(name: str) -> None:
    model, arrays = golden_case(name)
    with torch.no_grad():
        arguments = model(arrays["tokens"])
    assert list(arguments) == ["df", "loc", "scale"]
    for key, value in arguments.items():
        np.testing.assert_allclose(value, arrays[f"param_{key}"], rtol=0, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_that_of_the_published_implementation(name: str) -> None:
    model, arrays = golden_case(name)
    context = model.spec.context_length
    values = torch.cat([arrays["past_target"][:, -context + 1 :], arrays["future_target"]], dim=1)
    with torch.no_grad():
        losses = negative_log_likelihood(
            "studentT", model(arrays["tokens"]), values, arrays["loc"], arrays["scale"]
        )
    np.testing.assert_allclose(losses, arrays["nll"], rtol=1e-4, atol=1e-5)  # some are near 0


@pytest.mark.parametrize("rope_scaling", ROPE_SCALINGS)
@pytest.mark.parametrize("changed", [0, 3, 6, 11])
def test_a_token_changes_its_own_and_later_outputs_only(rope_scaling: str, changed: int) -> None:
    model = fresh(dataclasses.replace(SPEC, rope_scaling=rope_scaling))
    tokens = prompt(SPEC, 12)
    other = tokens.clone()
    other[:, changed] += 1.0
    before, after = run(model, tokens), run(model, other)
    torch.testing.assert_close(before[..., :changed], after[..., :changed], rtol=0, atol=0)
    moved = (before - after).abs().amax(dim=(0, 1))
    assert (moved[changed:] > 1e-6).all()


def test_a_single_token_is_not_rotated() -> None:
    """At position 0 every rotary scaling is the identity, so all four agree."""
    tokens = prompt(SPEC, 1)
    outputs = [
        run(fresh(dataclasses.replace(SPEC, rope_scaling=name)), tokens) for name in ROPE_SCALINGS
    ]
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=0, atol=0)


@pytest.mark.parametrize(("rope_scaling", "matters"), [("nope", False), ("none", True)])
def test_without_rotary_positions_the_order_of_earlier_tokens_is_ignored(
    rope_scaling: str, matters: bool
) -> None:
    """One layer only: in deeper ones the causal mask itself tells an order."""
    model = fresh(dataclasses.replace(SPEC, num_layers=1, rope_scaling=rope_scaling))
    tokens = prompt(SPEC, 8)
    shuffled = tokens[:, [4, 2, 6, 0, 1, 5, 3, 7]]
    difference = (run(model, tokens)[..., -1] - run(model, shuffled)[..., -1]).abs().max()
    assert (difference > 1e-4) if matters else (difference < 1e-6)


@pytest.mark.parametrize(("length", "same"), [(7, True), (8, True), (9, False), (16, False)])
def test_dynamic_scaling_begins_beyond_the_longest_trained_context(length: int, same: bool) -> None:
    plain = fresh(SPEC)
    dynamic = fresh(dataclasses.replace(SPEC, rope_scaling="dynamic"))
    tokens = prompt(SPEC, length)
    assert torch.equal(run(plain, tokens), run(dynamic, tokens)) == same


def angles(rope_scaling: str, length: int, **changes: Any) -> NDArray[np.float64]:
    spec = dataclasses.replace(SPEC, head_dim=8, rope_scaling=rope_scaling, **changes)
    cos, sin = rotary_tables(spec, length)
    np.testing.assert_allclose(cos.astype(float) ** 2 + sin.astype(float) ** 2, 1.0, atol=1e-6)
    return np.arctan2(sin, cos).astype(float)


def test_angles_fall_geometrically_from_one_radian_a_step() -> None:
    np.testing.assert_allclose(angles("none", 2)[1], [1.0, 0.1, 0.01, 0.001], rtol=1e-5)


def test_linear_scaling_slows_every_angle_by_the_factor() -> None:
    slowed = angles("linear", 9, rope_factor=4.0)
    np.testing.assert_allclose(slowed[::4], angles("none", 3), atol=1e-6)


def test_dynamic_scaling_keeps_the_fastest_angle_and_stretches_the_slowest() -> None:
    """24 tokens where 8 were trained, at factor 2: growth 2 * 24 / 8 - 1 = 5."""
    stretched, plain = angles("dynamic", 24)[1], angles("none", 24)[1]
    assert stretched[0] == pytest.approx(plain[0], rel=1e-6)
    assert stretched[-1] == pytest.approx(plain[-1] / 5, rel=1e-4)


@pytest.mark.parametrize("rope_scaling", ROPE_SCALINGS)
def test_the_smallest_head_runs_beyond_the_trained_context(rope_scaling: str) -> None:
    spec = dataclasses.replace(SPEC, head_dim=2, rope_scaling=rope_scaling)
    assert torch.isfinite(run(fresh(spec), prompt(spec, 12))).all()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head": "normal"},
        {"head": "neg_bin", "calendar": False},
        {"head": "mixtureT"},
        {"head": "spline"},
        {"num_layers": 3},
    ],
    ids=str,
)
def test_the_specification_counts_the_weights(changes: dict[str, Any]) -> None:
    spec = dataclasses.replace(SPEC, **changes)
    assert sum(p.numel() for p in LagLlama(spec).parameters()) == spec.num_parameters


@pytest.mark.parametrize("head", ["mixtureT", "spline"])
def test_fresh_heads_start_where_they_can_learn(head: str) -> None:
    spec = dataclasses.replace(SPEC, head_dim=64, mlp_width=256, head=head)
    arguments = {name: float(x.detach().mean()) for name, x in fresh(spec)(prompt(spec, 8)).items()}
    if head == "mixtureT":
        places = [arguments[f"loc_{k}"] for k in (1, 2, 3)]
        assert places == sorted(places)
        assert arguments["scale_2"] < min(arguments["scale_1"], arguments["scale_3"])
    else:  # near the identity
        for name, value in arguments.items():
            if name.startswith(("width", "height")):
                assert value == pytest.approx(1.25, rel=0.2)
            elif name.startswith("slope"):
                assert value == pytest.approx(1, abs=0.1)


def test_arguments_keep_their_precision_where_the_network_runs_in_bfloat16() -> None:
    model, tokens = fresh(dataclasses.replace(SPEC, head="spline")), prompt(SPEC, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(tokens)
    assert {values.dtype for values in half.values()} == {torch.float32}
    for name, values in model(tokens).items():
        torch.testing.assert_close(half[name], values, rtol=0.1, atol=0.1)


def test_rms_norm_divides_by_the_root_mean_square() -> None:
    norm, x = RMSNorm(6), torch.randn(3, 5, 6)
    with torch.no_grad():
        norm.scale.copy_(torch.linspace(0.5, 2.0, 6))
        got = norm(x)
    wide = x.numpy().astype(float)
    wanted = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * np.linspace(0.5, 2.0, 6)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_the_mlp_gates_one_map_by_the_silu_of_another() -> None:
    mlp, x = MLP(SPEC), torch.randn(3, 8)
    first, second, out = (
        w.detach().numpy().astype(float)
        for w in (mlp.c_fc1.weight, mlp.c_fc2.weight, mlp.c_proj.weight)
    )
    wide = x.numpy().astype(float)
    gate = wide @ first.T
    wanted = (gate / (1 + np.exp(-gate)) * (wide @ second.T)) @ out.T
    np.testing.assert_allclose(mlp(x).detach(), wanted, rtol=1e-4, atol=1e-6)


def test_attention_weighs_the_past_by_rotated_queries_and_keys() -> None:
    """Head by head and token by token, the rotation written as complex multiplication."""
    attention, x = CausalSelfAttention(SPEC), torch.randn(1, 5, 8)
    cos, sin = rotary_tables(SPEC, 5)
    with torch.no_grad():
        got = attention(x, torch.from_numpy(cos), torch.from_numpy(sin))[0][0]
        query, kv = attention.q_proj(x)[0].numpy(), attention.kv_proj(x)[0].numpy()
    turn = np.exp(1j * np.arange(5)[:, None] * np.array([1.0, 0.01]))
    mixed = np.zeros((5, 8))
    for head in (slice(0, 4), slice(4, 8)):
        q, k = (part[:, head][:, :2] + 1j * part[:, head][:, 2:] for part in (query, kv[:, :8]))
        logits = ((q * turn)[:, None] * (k * turn).conj()[None]).real.sum(-1) / 2.0
        weights = np.tril(np.exp(logits))
        mixed[:, head] = weights / weights.sum(1, keepdims=True) @ kv[:, 8:][:, head]
    wanted = mixed @ attention.c_proj.weight.detach().numpy().T
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


def test_fresh_weights_have_no_bias_and_keep_the_variance() -> None:
    torch.manual_seed(0)
    model = LagLlama(dataclasses.replace(SPEC, head_dim=64, mlp_width=256))
    model.initialise()
    weights = dict(model.named_parameters())
    assert all((w == 0).all() for name, w in weights.items() if name.endswith("bias"))
    for name, std in (("attn.q_proj", 128**-0.5), ("mlp.c_proj", 256**-0.5 / 2)):
        found = float(weights[f"transformer.h.0.{name}.weight"].detach().std())
        assert found == pytest.approx(std, rel=0.05), name


def stirred(**changes: Any) -> LagLlama:
    """A fresh network of large weights, so that it strays as far as it may."""
    model = fresh(dataclasses.replace(SPEC, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
            )
    return model


@pytest.mark.parametrize("head", ["studentT", "mixtureT"])
def test_the_centre_moves_with_the_value_and_its_regression_together(head: str) -> None:
    """The same hidden state and both 7 higher give a centre 7 higher."""
    model = stirred(head=head, history="carry", residual=True, regression=True)
    tokens = prompt(model.spec, 5)
    moved = tokens.clone()
    moved[..., [0, model.spec.num_lags]] += 7
    hidden = torch.randn(2, 5, model.spec.width, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        one, other = model.head(hidden, tokens), model.head(hidden, moved)
    for name in model.spec.arguments:
        torch.testing.assert_close(other[name], one[name] + 7 * name.startswith("loc"))


def test_a_fresh_network_centres_halfway_between_the_value_and_its_regression() -> None:
    model = fresh(dataclasses.replace(SPEC, history="carry", residual=True, regression=True))
    tokens = torch.zeros(1, 1, model.spec.num_features)
    hidden = torch.randn(1, 1, model.spec.width)
    with torch.no_grad():
        without = model.head(hidden, tokens)["loc"]
        tokens[..., model.spec.num_lags] = 3.0
        moved = model.head(hidden, tokens)["loc"]
    torch.testing.assert_close(moved, without + 1.5)
