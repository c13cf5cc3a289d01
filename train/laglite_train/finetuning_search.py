"""Fine-tuning with a search over context length and learning rate, and without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from laglite.errors import LagliteError
from laglite.spec import ModelSpec
from laglite_train.finetuning import (
    Candidate,
    FineTuneConfig,
    as_it_came,
    check_context,
    fine_tune,
    with_context,
)
from laglite_train.model import LagLlama
from laglite_train.time_split import TimeSplit

CONTEXTS = (32, 64, 128, 256, 512)
LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
KEPT_CONTEXTS = 2
# Successive halving (Jamieson and Talwalkar 2016): the share of all steps, and how many go on.
RUNGS = ((0.125, 2), (0.5, 1))

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """One run of a search, for the record; 0 `steps`: the network as it came."""

    context_length: int
    learning_rate: float
    steps: int
    wql: float


@dataclass(frozen=True)
class Outcome:
    """The network whose validation windows were forecast best, the one that came, all trials."""

    best: Candidate
    zero_shot: Candidate
    trials: tuple[Trial, ...]

    @property
    def improved(self) -> bool:
        """Whether training made those forecasts better."""
        return self.best.steps > 0


def run_once(
    model: LagLlama,
    split: TimeSplit,
    config: FineTuneConfig,
    *,
    context: int | None,
    tell: Tell,
    progress: bool,
) -> Outcome:
    """Fine-tune with the given learning rate and context (None: the model's own).

    The network as it came is a candidate too. Raises InputError, LagliteError (see `fine_tune`).
    """
    context = model.spec.context_length if context is None else context
    trials = _Trials(model, split, config, tell)
    zero_shot = trials.as_it_came(model.spec.context_length)
    if context != zero_shot.context:
        trials.as_it_came(context)
    trials.train(context, config.learning_rate, config.steps, progress)
    return Outcome(trials.best, zero_shot, tuple(trials.record))


def search(
    model: LagLlama,
    split: TimeSplit,
    config: FineTuneConfig,
    *,
    contexts: Sequence[int],
    learning_rates: Sequence[float],
    tell: Tell,
    progress: bool,
) -> Outcome:
    """Fine-tune with the context and the learning rate that validate best.

    The contexts at which the network as it came is best are combined with all learning rates;
    short runs of each are halved down to one, which gets all steps. Runs whose loss is not finite
    drop out. The best of all networks seen is kept.
    """
    trials = _Trials(model, split, config, tell)
    zero_shot = trials.as_it_came(model.spec.context_length)
    others = [trials.as_it_came(c) for c in contexts if c != zero_shot.context]
    known = [zero_shot] if zero_shot.context in contexts else []
    ranked = sorted([*known, *others], key=lambda each: each.wql)
    pairs = [(c.context, rate) for c in ranked[:KEPT_CONTEXTS] for rate in learning_rates]
    for share, kept in RUNGS:
        if len(pairs) <= kept:
            continue
        steps = max(1, int(share * config.steps))
        errors = {pair: trials.try_to_train(*pair, steps) for pair in pairs}
        pairs = sorted(pairs, key=errors.__getitem__)[:kept]
    trials.try_to_train(*pairs[0], config.steps, progress)
    return Outcome(trials.best, zero_shot, tuple(trials.record))


def allowed_contexts(spec: ModelSpec, split: TimeSplit) -> list[int]:
    """The contexts of `CONTEXTS`, and the model's own, that model and data allow.

    A context reaches no further than the longest series, but for the shortest.
    """
    choices = sorted({*CONTEXTS, spec.context_length})
    most = spec.max_positions
    fitting = [c for c in choices if most is None or c + split.horizon - 1 <= most]
    return [c for c in fitting if c < split.longest_training] or fitting[:1]


class _Trials:
    """Runs networks one after the other, tells of each, and keeps the best."""

    def __init__(
        self, model: LagLlama, split: TimeSplit, config: FineTuneConfig, tell: Tell
    ) -> None:
        self._model, self._split, self._config, self._tell = model, split, config, tell
        self.record: list[Trial] = []
        self._best: Candidate | None = None

    @property
    def best(self) -> Candidate:
        if self._best is None:
            raise LagliteError("nothing was tried")
        return self._best

    def as_it_came(self, context: int) -> Candidate:
        check_context(self._model.spec, context, self._split.horizon)
        found = as_it_came(self._model, self._split, context, self._config)
        self._keep(found, f"context {context}, not trained")
        return found

    def train(self, context: int, rate: float, steps: int, progress: bool = False) -> Candidate:
        config = dataclasses.replace(self._config, learning_rate=rate, steps=steps)
        started = with_context(self._model, context)
        found = fine_tune(started, self._split, config, progress=progress)
        self._keep(
            found,
            f"context {context}, learning rate {rate:g}, best of {steps} steps: {found.steps}",
        )
        return found

    def try_to_train(self, context: int, rate: float, steps: int, progress: bool = False) -> float:
        """The error, infinite for a run that diverged."""
        try:
            return self.train(context, rate, steps, progress).wql
        except LagliteError as error:
            self._tell(f"context {context}, learning rate {rate:g}, {steps} steps: {error}")
            self.record.append(Trial(context, rate, steps, float("inf")))
            return float("inf")

    def _keep(self, found: Candidate, label: str) -> None:
        self._tell(f"{label}: validation WQL {found.wql:.4f}")
        self.record.append(Trial(found.context, found.learning_rate, found.steps, found.wql))
        if self._best is None or found.wql < self._best.wql:
            self._best = found
