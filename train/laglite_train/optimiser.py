"""The optimiser: AdamW, or Muon for the blocks' matrices; the course of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

OPTIMISERS = ("adamw", "muon")
BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class OptimiserConfig:
    """How weights are updated.

    `name`: "adamw", or "muon": orthogonalised momentum (Jordan et al. 2024) with
    `matrix_learning_rate` for all matrices but the head's, AdamW for the rest. (Neighbouring lags
    are nearly equal: an update that treats all directions of the input projection alike learns
    from their differences, which carry most of what there is to learn.) The rate warms
    up linearly over `warmup_steps`; over the last `decay_share` of the steps after that (1: all)
    it decays along a cosine to `final_share` of itself.
    `average` is the decay of the exponential moving average of weights that is validated and
    exported (0: none).
    """

    name: str = "adamw"
    learning_rate: float = 2e-3
    matrix_learning_rate: float = 0.02
    weight_decay: float = 0.01
    warmup_steps: int = 200
    decay_share: float = 1.0
    final_share: float = 0.0
    gradient_clip: float = 1.0
    average: float = 0.998


class MatrixAndRest(Optimizer):
    """Two optimisers in step: one for the blocks' matrices, one for all other weights."""

    def __init__(self, matrices: Optimizer, rest: Optimizer) -> None:
        self.parts = (matrices, rest)
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share_groups()

    def _share_groups(self) -> None:
        """Each part works on the very groups whose learning rates a schedule sets here."""
        split = len(self.parts[0].param_groups)
        self.parts[0].param_groups = self.param_groups[:split]
        self.parts[1].param_groups = self.param_groups[split:]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all weights; `closure` re-evaluates the loss first, as elsewhere in torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> Optimizer:
    """The optimiser of `model`'s trainable weights; vectors and biases have no weight decay."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    inner = [p for name, p in named if p.dim() == 2 and name.startswith("transformer")]
    outer = [p for name, p in named if p.dim() == 2 and not name.startswith("transformer")]
    vectors = [p for name, p in named if p.dim() != 2]
    if config.name == "muon" and inner:
        matrices = torch.optim.Muon(
            inner, lr=config.matrix_learning_rate, weight_decay=config.weight_decay
        )
        return MatrixAndRest(matrices, _adamw(outer, vectors, config))
    return _adamw([*inner, *outer], vectors, config)


def _adamw(
    matrices: Iterable[nn.Parameter], vectors: Iterable[nn.Parameter], config: OptimiserConfig
) -> AdamW:
    groups = [
        {"params": list(matrices), "weight_decay": config.weight_decay},
        {"params": list(vectors), "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    return AdamW(kept, lr=config.learning_rate, betas=BETAS)


def rate_factor(config: OptimiserConfig, total: int) -> Callable[[int], float]:
    """The share of the full learning rate at each of `total` steps."""

    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        decay = config.decay_share * (total - config.warmup_steps)
        progress = 1 - (total - step) / max(1.0, decay)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
        return config.final_share + (1 - config.final_share) * cosine

    return factor
