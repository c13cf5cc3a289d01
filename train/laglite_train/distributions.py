"""The heads in torch: domain maps, losses and where training starts.

Student-t, normal and negative binomial are defined and trained as in the reference. The mixture
and the spline are laglite's own; their sampling side is in `laglite.heads`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import NegativeBinomial, Normal, StudentT
from torch.nn import functional as F

from laglite.heads.spline import BOUND
from laglite.spec import HEAD_ARGUMENTS, HEAD_GROUPS

FLOAT32_EPS = torch.finfo(torch.float32).eps
# Least share of a component or bin: keeps every one of them in reach of the gradient, and the
# logarithms and divisions by them finite.
LEAST_SHARE = {"weight": 1e-4, "width": 1e-3, "height": 1e-3}
# What the shares of a kind add up to.
TOTAL = {"weight": 1.0, "width": 2 * BOUND, "height": 2 * BOUND}
LEAST_SLOPE = 0.05  # smaller ones are spikes that float32 cannot resolve
SLOPE_SHIFT = math.log(math.expm1(1.0 - LEAST_SLOPE))  # a raw slope of 0 means a slope of 1


def domain_map(head: str, raw: Sequence[Tensor]) -> dict[str, Tensor]:
    """Raw network outputs to valid distribution arguments, one tensor of any shape for each.

    By kind of argument: df = 2 + softplus; scale = max(softplus, eps); total_count = softplus; loc
    and logits as they are. Weights, widths and heights are a softmax over their kind with a least
    share each (weights add up to 1, widths and heights to the spline's span); slopes are positive.
    """
    mapped: list[Tensor] = []
    for kind, count in HEAD_GROUPS[head].items():
        group = torch.stack(list(raw[len(mapped) : len(mapped) + count]), dim=-1)
        mapped.extend(_map_kind(kind, group).unbind(dim=-1))
    return dict(zip(HEAD_ARGUMENTS[head], mapped, strict=True))


def _map_kind(kind: str, raw: Tensor) -> Tensor:
    """All arguments of one kind, [..., count]."""
    if kind in ("loc", "logits"):
        return raw
    if kind in LEAST_SHARE:
        least, total = LEAST_SHARE[kind], TOTAL[kind]
        return total * (least + (1 - raw.shape[-1] * least) * raw.softmax(dim=-1))
    if kind == "slope":
        return LEAST_SLOPE + F.softplus(raw + SLOPE_SHIFT)
    positive = F.softplus(raw)
    if kind == "df":
        return 2.0 + positive
    return positive.clamp_min(FLOAT32_EPS) if kind == "scale" else positive


def initial_projection(head: str) -> list[tuple[float, float]]:
    """For each argument, the bias its projection starts with and a factor on its weights.

    A mixture starts with components that differ in place and width, a spline near the identity.
    """
    biases = {"mixtureT": {"loc_1": -0.5, "loc_3": 0.5, "scale_2": -1.0}}.get(head, {})
    knots = ("width", "height", "slope")
    return [
        (biases.get(name, 0.0), 0.1 if name.startswith(knots) else 1.0)
        for name in HEAD_ARGUMENTS[head]
    ]


def negative_log_likelihood(
    head: str, arguments: Mapping[str, Tensor], values: Tensor, loc: Tensor, scale: Tensor
) -> Tensor:
    """-log p(values) in data units, elementwise; for the published heads the reference's loss.

    `arguments` and `values` are [batch, positions]; `loc` and `scale` of the windows [batch, 1].
    """
    if head == "neg_bin":
        logits = arguments["logits"] + scale.log()
        counts = NegativeBinomial(arguments["total_count"], logits=logits, validate_args=False)
        return -counts.log_prob(values)
    scaled = (values - loc) / scale
    if head == "studentT":
        args = (arguments["df"], arguments["loc"], arguments["scale"])
        log_density = StudentT(*args, validate_args=False).log_prob(scaled)
    elif head == "normal":
        log_density = Normal(arguments["loc"], arguments["scale"], validate_args=False).log_prob(
            scaled
        )
    elif head == "mixtureT":
        log_density = _mixture_log_density(arguments, scaled)
    else:
        log_density = _spline_log_density(arguments, scaled)
    return scale.log() - log_density


def _kind(arguments: Mapping[str, Tensor], kind: str) -> Tensor:
    """All numbered arguments of a kind, stacked along a last axis."""
    return torch.stack([v for name, v in arguments.items() if name.startswith(f"{kind}_")], dim=-1)


def _mixture_log_density(arguments: Mapping[str, Tensor], scaled: Tensor) -> Tensor:
    args = (_kind(arguments, kind) for kind in ("df", "loc", "scale"))
    log_densities = StudentT(*args, validate_args=False).log_prob(scaled[..., None])
    return (_kind(arguments, "weight").log() + log_densities).logsumexp(dim=-1)


def _spline_log_density(arguments: Mapping[str, Tensor], scaled: Tensor) -> Tensor:
    """Change of variables to the logistic base: log f(x) - log dy/dx, as `laglite.heads.spline`."""
    y = (scaled - arguments["loc"]) / arguments["scale"]
    x, log_slope = _invert_spline(arguments, y)
    log_base = F.logsigmoid(x) + F.logsigmoid(-x)
    return log_base - log_slope - arguments["scale"].log()


def _invert_spline(arguments: Mapping[str, Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
    """The x with S(x) = y, and log S'(x), for the spline S (Durkan et al. 2019, eqs. 4 to 8).

    The quadratic for the place in the bin is written so that no difference of close numbers is
    taken, see `laglite.heads.spline`. Outside the spline, x = y.
    """
    widths, heights = _kind(arguments, "width"), _kind(arguments, "height")
    slopes = F.pad(_kind(arguments, "slope"), (1, 1), value=1.0)
    rights, tops = widths.cumsum(dim=-1) - BOUND, heights.cumsum(dim=-1) - BOUND
    inside = y.clamp(-BOUND, BOUND)
    bin_ = (inside.detach()[..., None] > tops[..., :-1]).sum(dim=-1, keepdim=True)

    def of_bin(knots: Tensor) -> Tensor:
        return knots.gather(-1, bin_).squeeze(-1)

    width, height = of_bin(widths), of_bin(heights)
    first, last = of_bin(slopes[..., :-1]), of_bin(slopes[..., 1:])
    mean = height / width
    rest = ((of_bin(tops) - inside) / height).clamp(0, 1)
    t = 1 - rest
    b = first * rest - last * t + 2 * mean * t
    mirrored = last * t - first * rest + 2 * mean * rest
    a = mean - b
    discriminant = torch.where(
        a >= 0, b * b + 4 * a * mean * t, mirrored * mirrored - 4 * a * mean * rest
    )
    root = discriminant.sqrt()
    quotient = b.abs() + root
    place = torch.where(
        b >= 0, 2 * mean * t / quotient, quotient / (2 * torch.where(b >= 0, 1.0, a))
    ).clamp(0, 1)
    bend = mean * (1 - 2 * place * (1 - place)) + (first + last) * place * (1 - place)
    x = of_bin(rights) - width * (1 - place)
    outside = y.abs() >= BOUND
    log_slope = mean.log() + root.log() - bend.log()
    return torch.where(outside, y, x), torch.where(outside, 0.0, log_slope)
