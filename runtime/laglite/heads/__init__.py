"""Heads: the distribution of the next value, from the arguments the network gives.

Arguments arrive in scaled units after the domain map (df > 2, scale > 0, ...), named as in
`spec.HEAD_ARGUMENTS`; values go in and out in data units unless said otherwise. Randomness enters
as uniforms, transformed in closed form, so that every backend draws the same values.
"""

from __future__ import annotations

from laglite.heads.family import Head
from laglite.heads.mixture import MixtureT
from laglite.heads.negative_binomial import NegativeBinomial
from laglite.heads.normal import Normal
from laglite.heads.spline import Spline
from laglite.heads.student_t import StudentT

HEADS: dict[str, Head] = {
    "studentT": StudentT(),
    "normal": Normal(),
    "neg_bin": NegativeBinomial(),
    "mixtureT": MixtureT(),
    "spline": Spline(),
}

__all__ = ["HEADS", "Head"]
