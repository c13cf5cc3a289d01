"""Domain maps and losses of the heads against scipy's distributions, the spline's against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special, stats

from laglite.spec import HEAD_ARGUMENTS
from laglite_train.distributions import domain_map, negative_log_likelihood
from tests.head_references import log_density, reference

HEADS = tuple(HEAD_ARGUMENTS)
FLOAT32_EPS = 2.0**-23
LOC = np.array([[0.0], [-3.0], [1200.0]])
SCALE = np.array([[1.0], [0.02], [340.0]])


def softplus(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.logaddexp(0.0, x)


def raw_outputs(head: str, spread: float = 2.0) -> list[NDArray[np.float64]]:
    random = np.random.default_rng(8)
    return [random.normal(scale=spread, size=(3, 40)) for _ in HEAD_ARGUMENTS[head]]


def observed(head: str) -> NDArray[np.float64]:
    random = np.random.default_rng(9)
    if head == "neg_bin":
        return random.poisson(30.0, size=(3, 40)).astype(float)
    return LOC + SCALE * random.standard_t(3, size=(3, 40))


def reference_loss(
    head: str, arguments: dict[str, NDArray[np.float64]], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """-log p in data units: location-scale families moved there, counts by a rate times scale."""
    return -log_density(reference(head, arguments, LOC, SCALE))(values)


def test_studentt_arguments_are_softplus_but_for_loc() -> None:
    df, loc, scale = raw_outputs("studentT")
    got = domain_map("studentT", [torch.from_numpy(x) for x in (df, loc, scale)])
    np.testing.assert_allclose(got["df"], 2 + softplus(df), rtol=1e-12)
    np.testing.assert_array_equal(got["loc"], loc)
    np.testing.assert_allclose(got["scale"], softplus(scale), rtol=1e-12)


def test_normal_arguments_are_loc_and_softplus() -> None:
    loc, scale = raw_outputs("normal")
    got = domain_map("normal", [torch.from_numpy(loc), torch.from_numpy(scale)])
    np.testing.assert_array_equal(got["loc"], loc)
    np.testing.assert_allclose(got["scale"], softplus(scale), rtol=1e-12)


def test_negative_binomial_arguments_are_softplus_and_logits() -> None:
    total_count, logits = raw_outputs("neg_bin")
    got = domain_map("neg_bin", [torch.from_numpy(total_count), torch.from_numpy(logits)])
    np.testing.assert_allclose(got["total_count"], softplus(total_count), rtol=1e-12)
    np.testing.assert_array_equal(got["logits"], logits)


@pytest.mark.parametrize("head", HEADS)
def test_arguments_come_in_the_order_of_the_head(head: str) -> None:
    got = domain_map(head, [torch.zeros(1) for _ in HEAD_ARGUMENTS[head]])
    assert tuple(got) == HEAD_ARGUMENTS[head]


@pytest.mark.parametrize("head", ["studentT", "normal"])
def test_the_scale_never_falls_below_float_precision(head: str) -> None:
    raw = [torch.full((2,), -200.0) for _ in HEAD_ARGUMENTS[head]]
    assert domain_map(head, raw)["scale"].tolist() == [FLOAT32_EPS] * 2


def test_weights_widths_and_heights_are_shares_with_a_floor_and_a_fixed_total() -> None:
    raw = [torch.from_numpy(x) for x in raw_outputs("spline", spread=40.0)]
    got = domain_map("spline", raw)
    for kind in ("width", "height"):
        sizes = torch.stack([got[f"{kind}_{k}"] for k in range(1, 9)])
        np.testing.assert_allclose(sizes.sum(dim=0), 10.0, rtol=1e-12)
        assert sizes.min() >= 0.05
    weights = torch.stack([domain_map("mixtureT", raw[:12])[f"weight_{k}"] for k in range(1, 4)])
    np.testing.assert_allclose(weights.sum(dim=0), 1.0, rtol=1e-12)
    assert weights.min() >= 1e-4
    plain = domain_map("mixtureT", [torch.from_numpy(x) for x in raw_outputs("mixtureT")])
    logits = np.stack(raw_outputs("mixtureT")[:3])
    wanted = 1e-4 + (1 - 3e-4) * special.softmax(logits, axis=0)
    np.testing.assert_allclose(plain["weight_2"], wanted[1], rtol=1e-12)


def test_slopes_are_a_sigmoid_between_a_tenth_and_nineteen_tenths() -> None:
    raw = raw_outputs("spline")
    got = domain_map("spline", [torch.from_numpy(x) for x in raw])
    np.testing.assert_allclose(got["slope_7"], 0.1 + 1.8 * special.expit(raw[-1]), rtol=1e-12)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 5e-4)])
def test_the_loss_is_the_negative_log_density_in_data_units(
    head: str, dtype: torch.dtype, rtol: float
) -> None:
    raw = raw_outputs(head)
    values = observed(head)
    exact = domain_map(head, [torch.from_numpy(x) for x in raw])
    wanted = reference_loss(head, {name: a.numpy() for name, a in exact.items()}, values)
    loc, scale, following = (torch.from_numpy(x).to(dtype) for x in (LOC, SCALE, values))
    arguments = domain_map(head, [torch.from_numpy(x).to(dtype) for x in raw])
    got = negative_log_likelihood(head, arguments, following, loc, scale)
    assert got.shape == (3, 40)
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("spread", [1.0, 10.0, 30.0])
def test_loss_and_gradients_are_finite(head: str, spread: float) -> None:
    raw = [torch.from_numpy(x).float().requires_grad_() for x in raw_outputs(head, spread=spread)]
    loc, scale, values = (torch.from_numpy(x).float() for x in (LOC, SCALE, observed(head)))
    loss = negative_log_likelihood(head, domain_map(head, raw), values, loc, scale)
    loss.mean().backward()
    assert torch.isfinite(loss).all()
    for argument in raw:
        assert argument.grad is not None
        assert torch.isfinite(argument.grad).all()
        assert (argument.grad != 0).any()


@pytest.mark.parametrize("head", [head for head in HEADS if head != "neg_bin"])
@pytest.mark.parametrize("distance", [1e2, 1e4, 1e6])
def test_outliers_leave_the_loss_and_its_gradients_finite(head: str, distance: float) -> None:
    raw = [torch.from_numpy(x).float().requires_grad_() for x in raw_outputs(head)]
    loc, scale = (torch.from_numpy(x).float() for x in (LOC, SCALE))
    values = loc + scale * torch.linspace(-distance, distance, 40)
    loss = negative_log_likelihood(head, domain_map(head, raw), values, loc, scale)
    loss.mean().backward()
    assert torch.isfinite(loss).all()
    if head != "normal":  # its loss is the distance squared
        assert loss.max() < 300
    for argument in raw:
        assert argument.grad is not None
        assert torch.isfinite(argument.grad).all()


@pytest.mark.parametrize("place", [-5.0, -1.25, 0.0, 3.75, 5.0])
def test_the_splines_loss_is_finite_on_its_knots(place: float) -> None:
    raw = [torch.zeros(1, requires_grad=True) for _ in HEAD_ARGUMENTS["spline"]]
    arguments = domain_map("spline", raw)
    values = (place * arguments["scale"]).detach()
    zero, one = torch.zeros(1), torch.ones(1)
    loss = negative_log_likelihood("spline", arguments, values, zero, one)
    loss.sum().backward()
    expected = np.log(arguments["scale"].item()) - stats.logistic.logpdf(place)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert all(torch.isfinite(x.grad).all() for x in raw if x.grad is not None)


@pytest.mark.parametrize("head", HEADS)
def test_gradients_are_those_of_the_reference_by_differences(head: str) -> None:
    raw = [torch.from_numpy(x).requires_grad_() for x in raw_outputs(head)]
    values = observed(head)
    loc, scale, following = (torch.from_numpy(x) for x in (LOC, SCALE, values))
    negative_log_likelihood(head, domain_map(head, raw), following, loc, scale).sum().backward()
    # All arguments' steps to both sides at once: [sides, arguments, 3, 40].
    steps = 1e-6 * torch.eye(len(raw), dtype=torch.float64)[:, :, None, None]
    moved = [x.detach() + torch.stack([step, -step]) for x, step in zip(raw, steps, strict=True)]
    mapped = {name: a.numpy() for name, a in domain_map(head, moved).items()}
    above, below = reference_loss(head, mapped, values)
    for argument, difference in zip(raw, above - below, strict=True):
        np.testing.assert_allclose(argument.grad, difference / 2e-6, rtol=1e-4, atol=1e-4)
