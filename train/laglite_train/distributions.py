"""The heads in torch: domain maps, losses and where training starts.

Student-t, normal and negative binomial are defined and trained as in the reference. The mixture
and the spline are laglite's own; their sampling side is in `laglite.heads`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import NegativeBinomial, Normal
from torch.nn import functional as F

from laglite.heads.spline import BOUND, TAIL
from laglite.spec import HEAD_ARGUMENTS, HEAD_GROUPS

FLOAT32_EPS = torch.finfo(torch.float32).eps
# Least share of a component or bin: keeps every one of them in reach of the gradient, and the
# logarithms and divisions by them finite.
LEAST_SHARE = {"weight": 1e-4, "width": 5e-3, "height": 5e-3}
# What the shares of a kind add up to.
TOTAL = {"weight": 1.0, "width": 2 * BOUND, "height": 2 * BOUND}
LEAST_SLOPE = 0.1


def domain_map(head: str, raw: Sequence[Tensor]) -> dict[str, Tensor]:
    """Raw network outputs to valid distribution arguments, one tensor of any shape for each.

    By kind of argument: df = 2 + softplus; scale = max(softplus, eps); total_count = softplus; loc
    and logits as they are. Weights, widths and heights are a softmax over their kind with a least
    share each (weights add up to 1, widths and heights to the spline's span); slopes are a sigmoid
    between 0.1 and 1.9.
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
        return LEAST_SLOPE + (2 - 2 * LEAST_SLOPE) * raw.sigmoid()
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


def sample(head: str, arguments: Mapping[str, Tensor], uniforms: Tensor) -> Tensor:
    """One draw for each pair of uniforms [2, ...] in (0, 1], differentiable by the arguments.

    studentT and normal, in the polar forms of `laglite.heads`, in scaled units.
    """
    first = uniforms[0].clamp_max(1 - FLOAT32_EPS)  # the root has no slope at 0
    if head == "studentT":
        df = arguments["df"]
        radius = torch.sqrt(df * torch.expm1(first.log() * (-2.0 / df)))
    else:
        radius = torch.sqrt(-2.0 * first.log())
    draws = radius * torch.cos(2 * math.pi * uniforms[1])
    return arguments["loc"] + arguments["scale"] * draws


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
        log_density = _student_t_log_density(scaled, *args)
    elif head == "normal":
        log_density = Normal(arguments["loc"], arguments["scale"], validate_args=False).log_prob(
            scaled
        )
    elif head == "mixtureT":
        log_density = _mixture_log_density(arguments, scaled)
    else:
        log_density = _spline_log_density(arguments, scaled)
    return scale.log() - log_density


def _student_t_log_density(values: Tensor, df: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """As torch's StudentT, which raises for NaN arguments where a loss of NaN tells the window."""
    units = (values - loc) / scale
    normaliser = (
        scale.log()
        + 0.5 * df.log()
        + 0.5 * math.log(math.pi)
        + torch.lgamma(0.5 * df)
        - torch.lgamma(0.5 * (df + 1.0))
    )
    return -0.5 * (df + 1.0) * torch.log1p(units**2.0 / df) - normaliser


def _kind(arguments: Mapping[str, Tensor], kind: str) -> Tensor:
    """All numbered arguments of a kind, stacked along a last axis."""
    return torch.stack([v for name, v in arguments.items() if name.startswith(f"{kind}_")], dim=-1)


def _mixture_log_density(arguments: Mapping[str, Tensor], scaled: Tensor) -> Tensor:
    args = (_kind(arguments, kind) for kind in ("df", "loc", "scale"))
    log_densities = _student_t_log_density(scaled[..., None], *args)
    return (_kind(arguments, "weight").log() + log_densities).logsumexp(dim=-1)


def _spline_log_density(arguments: Mapping[str, Tensor], scaled: Tensor) -> Tensor:
    """Change of variables to the logistic base: log f(x) - log dS/dx - log scale."""
    y = (scaled - arguments["loc"]) / arguments["scale"]
    x, log_slope = _invert_spline(arguments, y)
    return F.logsigmoid(x) + F.logsigmoid(-x) - log_slope - arguments["scale"].log()


def _invert_spline(arguments: Mapping[str, Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
    """The x with S(x) = y, and log dS/dx: `laglite.heads.spline.inverse`, which explains it."""
    widths, heights = _kind(arguments, "width"), _kind(arguments, "height")
    means = heights / widths
    harmonic = 2 * _kind(arguments, "slope") / (means[..., :-1] + means[..., 1:])
    firsts = F.pad(harmonic * means[..., :-1], (1, 0), value=1.0)
    lasts = F.pad(harmonic * means[..., 1:], (0, 1), value=1.0)
    tops = heights.cumsum(dim=-1) - BOUND
    number = (y.detach()[..., None] > tops[..., :-1]).sum(dim=-1, keepdim=True)

    def of_bin(stacked: Tensor) -> Tensor:
        return stacked.gather(-1, number).squeeze(-1)

    width, height, first, last = map(of_bin, (widths, heights, firsts, lasts))
    rest = ((of_bin(tops) - y) / height).clamp(0, 1)
    t = 1 - rest
    b = first * rest + (2 - last) * t
    mirrored = last * t + (2 - first) * rest
    a = 1 - b
    root = torch.where(a >= 0, b * b + 4 * a * t, mirrored * mirrored - 4 * a * rest).sqrt()
    q = (2 * t / (b + root)).clamp(max=1)
    product = q * (1 - q)
    bend = 1 - 2 * product + (first + last) * product
    log_slope = (height / width).log() + root.log() - bend.log()
    log_growth = (TAIL * (y.abs() - BOUND).clamp_min(0)).log1p()
    right = of_bin(widths.cumsum(dim=-1)) - BOUND
    inside = y.abs() < BOUND
    x = torch.where(inside, right - width * (1 - q), (BOUND + log_growth / TAIL).copysign(y))
    return x, torch.where(inside, log_slope, log_growth)
