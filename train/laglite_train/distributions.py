"""The heads as torch distributions: domain maps and the loss the reference is trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import NegativeBinomial, Normal, StudentT
from torch.nn import functional as F

from laglite.spec import HEAD_ARGUMENTS

FLOAT32_EPS = torch.finfo(torch.float32).eps


def domain_map(head: str, raw: Sequence[Tensor]) -> dict[str, Tensor]:
    """Raw network outputs to valid distribution arguments, elementwise.

    studentT: df = 2 + softplus, loc, scale = max(softplus, eps); normal: loc, scale as there;
    neg_bin: total_count = softplus, logits.
    """
    if head == "studentT":
        df, loc, scale = raw
        mapped = [2.0 + F.softplus(df), loc, F.softplus(scale).clamp_min(FLOAT32_EPS)]
    elif head == "normal":
        loc, scale = raw
        mapped = [loc, F.softplus(scale).clamp_min(FLOAT32_EPS)]
    else:
        total_count, logits = raw
        mapped = [F.softplus(total_count), logits]
    return dict(zip(HEAD_ARGUMENTS[head], mapped, strict=True))


def negative_log_likelihood(
    head: str, arguments: Mapping[str, Tensor], values: Tensor, loc: Tensor, scale: Tensor
) -> Tensor:
    """-log p(values) in data units, elementwise, as the reference defines its loss.

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
    else:
        log_density = Normal(arguments["loc"], arguments["scale"], validate_args=False).log_prob(
            scaled
        )
    return scale.log() - log_density
