"""Which held-back windows a fine-tuned model and its base are measured on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from laglite.errors import InputError
from laglite.reading import InputSeries
from laglite.spec import ModelSpec
from laglite_export.finetuning import held_back_windows
from laglite_train.time_split import split_in_time

HORIZON = 4


def ignore(_: str) -> None:
    """No notes."""


def test_a_window_needs_a_value_within_reach_of_the_shortest_context(
    small_spec: ModelSpec,
) -> None:
    spec = dataclasses.replace(small_spec, context_length=16)
    values = np.arange(200.0)
    values[200 - HORIZON - spec.max_lag - 12 : 200 - HORIZON] = np.nan
    split = split_in_time("a", [InputSeries("a", values, None, None)], HORIZON, 1, ignore)
    (window,) = held_back_windows(split, spec, [16, 32], None, ignore)
    assert len(window.history) == 200 - HORIZON
    for contexts in ([8], [16, 8]):
        with pytest.raises(InputError, match="no series has observed values both in its last 4"):
            held_back_windows(split, spec, contexts, None, ignore)
