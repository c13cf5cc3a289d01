"""Distributions of all heads from scipy and torch, independent of laglite's own formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.stats
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, logsumexp

Array = NDArray[np.float64]
BOUND, TAIL = 5.0, 0.25


def reference(
    head: str, arguments: Mapping[str, ArrayLike], window_loc: ArrayLike, window_scale: ArrayLike
) -> Any:
    """The head's distribution in data units: `ppf`, `cdf`, and `logpdf` (`logpmf` of counts).

    `arguments` are in scaled units; all shapes broadcast.
    """
    given = {name: np.asarray(value, np.float64) for name, value in arguments.items()}
    moved = np.asarray(window_loc), np.asarray(window_scale)
    if head == "neg_bin":
        odds = moved[1] * np.exp(given["logits"])
        return scipy.stats.nbinom(given["total_count"], 1 / (1 + odds))
    if head == "mixtureT":
        return Mixture(given, *moved)
    loc, scale = moved[0] + moved[1] * given["loc"], moved[1] * given["scale"]
    if head == "spline":
        return Spline(given, loc, scale)
    if head == "normal":
        return scipy.stats.norm(loc, scale)
    return scipy.stats.t(given["df"], loc, scale)


def log_density(distribution: Any) -> Callable[[ArrayLike], Array]:
    """Its log density, or log mass where it has one."""
    # What scipy freezes carries both names, whatever the kind of distribution.
    discrete = isinstance(getattr(distribution, "dist", None), scipy.stats.rv_discrete)
    function: Callable[[ArrayLike], Array] = (
        distribution.logpmf if discrete else distribution.logpdf
    )
    return function


class Mixture:
    """Three of scipy's Student-t."""

    def __init__(self, arguments: Mapping[str, Array], loc: Array, scale: Array) -> None:
        self.parts = [
            scipy.stats.t(
                arguments[f"df_{k}"],
                loc + scale * arguments[f"loc_{k}"],
                scale * arguments[f"scale_{k}"],
            )
            for k in (1, 2, 3)
        ]
        self.weights = [arguments[f"weight_{k}"] for k in (1, 2, 3)]

    def logpdf(self, values: ArrayLike) -> Array:
        logs = [np.log(w) + p.logpdf(values) for w, p in zip(self.weights, self.parts, strict=True)]
        return np.asarray(logsumexp(np.stack(logs), axis=0))

    def cdf(self, values: ArrayLike) -> Array:
        return sum(w * p.cdf(values) for w, p in zip(self.weights, self.parts, strict=True))

    def ppf(self, levels: ArrayLike) -> Array:
        ends = np.stack([p.ppf(levels) for p in self.parts])
        return bisect(self.cdf, np.asarray(levels), ends.min(axis=0), ends.max(axis=0))


class Spline:
    """Durkan et al.'s spline as they write it; its inverse by bisection, its slope by autograd."""

    def __init__(self, arguments: Mapping[str, Array], loc: Array, scale: Array) -> None:
        def numbered(kind: str, count: int) -> torch.Tensor:
            stacked = [np.asarray(arguments[f"{kind}_{k + 1}"]) for k in range(count)]
            return torch.from_numpy(np.stack(stacked, axis=-1))

        self.loc, self.scale = loc, scale
        widths, heights = numbered("width", 8), numbered("height", 8)
        self.x = torch.nn.functional.pad(widths.cumsum(-1), (1, 0)) - BOUND
        self.y = torch.nn.functional.pad(heights.cumsum(-1), (1, 0)) - BOUND
        self.mean = heights / widths
        harmonic = 2 / (1 / self.mean[..., 1:] + 1 / self.mean[..., :-1])
        inner = numbered("slope", 7) * harmonic
        self.slope = torch.cat([self.mean[..., :1], inner, self.mean[..., -1:]], dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k = (x.detach()[..., None] > self.x[..., 1:-1]).sum(-1, keepdim=True)

        def pick(knots: torch.Tensor, shift: int = 0) -> torch.Tensor:
            knots = knots.expand(*k.shape[:-1], knots.shape[-1])
            return knots.gather(-1, k + shift)[..., 0]

        s, d0, d1 = pick(self.mean), pick(self.slope), pick(self.slope, 1)
        place = (x - pick(self.x)) / (pick(self.x, 1) - pick(self.x))
        height = pick(self.y, 1) - pick(self.y)
        over = height * (s * place**2 + d0 * place * (1 - place))
        inside = pick(self.y) + over / (s + (d1 + d0 - 2 * s) * place * (1 - place))
        tail = BOUND + ((TAIL * (x.abs() - BOUND)).exp() - 1) / TAIL
        return torch.where(x.abs() < BOUND, inside, tail * x.sign())

    def base(self, values: ArrayLike) -> Array:
        """The x whose image is the value."""
        z = (np.asarray(values, np.float64) - self.loc) / self.scale
        high = np.maximum(np.abs(z), BOUND)  # S grows faster than x out there

        def image(x: Array) -> Array:
            return self.forward(torch.from_numpy(np.asarray(x))).numpy()

        return bisect(image, z, -high, high)

    def logpdf(self, values: ArrayLike) -> Array:
        x = torch.tensor(self.base(values), requires_grad=True)
        (slope,) = torch.autograd.grad(self.forward(x).sum(), x)
        base = scipy.stats.logistic.logpdf(x.detach().numpy())
        return np.asarray(base - slope.log().numpy() - np.log(self.scale))

    def cdf(self, values: ArrayLike) -> Array:
        return np.asarray(expit(self.base(values)))

    def ppf(self, levels: ArrayLike) -> Array:
        image = self.forward(torch.from_numpy(np.asarray(logit(levels))))
        return np.asarray(self.loc + self.scale * image.numpy())


def bisect(rising: Callable[[Array], Array], target: Array, low: Array, high: Array) -> Array:
    """The x in [low, high] where a rising function, elementwise, reaches the target."""
    low, high, _ = (np.array(each) for each in np.broadcast_arrays(low, high, target))
    for _ in range(70):
        middle = (low + high) / 2
        enough = rising(middle) >= target
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return (low + high) / 2
