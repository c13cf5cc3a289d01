"""What a model is: sizes, lags, head, and the rules its features were trained with."""

from __future__ import annotations

import dataclasses
import reprlib
from dataclasses import dataclass
from typing import Any

from laglite.errors import SpecError
from laglite.seasons import SEASON_FLAGS, SEASON_LAGS

SCALINGS = ("robust", "mean", "std", "none", "iqr")
HISTORY_RULES = ("zeros", "carry")
ROPE_SCALINGS = ("none", "linear", "dynamic", "nope")
# Each head's arguments in order, by kind: how many there are of it. Kinds share a domain map.
HEAD_GROUPS = {
    "studentT": {"df": 1, "loc": 1, "scale": 1},
    "normal": {"loc": 1, "scale": 1},
    "neg_bin": {"total_count": 1, "logits": 1},
    "mixtureT": {"weight": 3, "df": 3, "loc": 3, "scale": 3},
    "spline": {"loc": 1, "scale": 1, "width": 8, "height": 8, "slope": 7},
}
HEAD_ARGUMENTS = {
    head: tuple(
        kind if count == 1 else f"{kind}_{number}"
        for kind, count in groups.items()
        for number in range(1, count + 1)
    )
    for head, groups in HEAD_GROUPS.items()
}
CALENDAR_FEATURES = 6
STATIC_FEATURES = 2
REGRESSION_FEATURES = 2
LONGEST_WINDOW = 1 << 20  # values; far beyond any use, yet they fit in memory


@dataclass(frozen=True)
class ModelSpec:
    """Architecture and feature rules of one model; validated on construction.

    `history` says what stands in for values that are not there. "zeros" is the published
    Lag-Llama's rule: a raw 0.0 for missing values and for the time before the series, and a
    prompt that is always `context_length` tokens. "carry" repeats the last observed value, puts
    the centre of the scale before the series, and starts the prompt at the first observed value.

    `scaling`: "robust", "mean", "std" and "none" are the published rules; "iqr" is laglite's own,
    which survives constant and intermittent series (see `laglite.scaling`).

    With `seasons`, tokens hold seasonal lags besides `lags` (see `laglite.seasons`).
    With `residual`, the network's output for the distribution's centre (each `loc`) is the change
    from the token's own value, not the value itself. With `regression` tokens also hold what a
    linear regression on the series' own history expects next (see `laglite.regression`), and the
    change is from a point between that and the value, which the network chooses.
    With `scale_free` tokens tell where zero lies, but not the size of the series' unit: forecasts
    of a series in other units are the same but for the unit.
    `num_covariates` real inputs known beforehand come last in every token (see
    `laglite.covariates`).
    `towers` are (heads, MLP width) of several narrower networks side by side, which have
    `num_heads` and `mlp_width` between them; none means one. Each has its own part of the residual
    stream, and only the head sees all of them.
    """

    num_layers: int
    num_heads: int
    head_dim: int
    mlp_width: int
    lags: tuple[int, ...]
    head: str = "studentT"
    scaling: str = "robust"
    history: str = "zeros"
    calendar: bool = True
    calendar_optional: bool = False
    seasons: bool = False
    residual: bool = False
    regression: bool = False
    scale_free: bool = False
    context_length: int = 32
    max_context_length: int = 2048
    rope_scaling: str = "none"
    rope_factor: float = 1.0
    num_covariates: int = 0
    towers: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_heads", "head_dim", "mlp_width", "context_length"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SpecError(f"{name} must be a whole number of at least 1, not {value!r}")
        if type(self.num_covariates) is not int or self.num_covariates < 0:
            raise SpecError(
                f"num_covariates must be a whole number of at least 0, not {self.num_covariates!r}"
            )
        if self.head_dim % 2:
            raise SpecError(f"head_dim must be even for rotary positions, not {self.head_dim}")
        if self.max_positions is not None and self.max_positions < self.context_length:
            raise SpecError(
                f"max_context_length {self.max_context_length} is below "
                f"context_length {self.context_length}"
            )
        if not self.lags or self.lags[0] < 0 or list(self.lags) != sorted(set(self.lags)):
            raise SpecError("lags must be distinct whole numbers >= 0 in rising order")
        longest = max(self.context_length, self.max_context_length) + self.max_lag
        if longest > LONGEST_WINDOW:
            raise SpecError(
                f"lags and context reach more than {LONGEST_WINDOW:,} steps back; "
                "the settings are damaged"
            )
        for name, allowed in (
            ("head", tuple(HEAD_ARGUMENTS)),
            ("scaling", SCALINGS),
            ("history", HISTORY_RULES),
            ("rope_scaling", ROPE_SCALINGS),
        ):
            if getattr(self, name) not in allowed:
                raise SpecError(
                    f"{name} {getattr(self, name)!r} is not known; one of: {', '.join(allowed)}"
                )
        self._check_centre()
        self._check_towers()
        if not 1.0 <= self.rope_factor < float("inf"):
            raise SpecError(f"rope_factor must be at least 1, not {self.rope_factor}")

    def _check_centre(self) -> None:
        """Whether what each loc is the change from goes together."""
        if self.residual and (self.lags[0] != 0 or "loc" not in HEAD_GROUPS[self.head]):
            raise SpecError(
                f"residual needs lag 0 and a head with a loc, not {self.head!r} from lag "
                f"{self.lags[0]} on"
            )
        if self.regression and not (self.residual and self.history == "carry"):
            raise SpecError("regression needs residual, and history 'carry'")

    def _check_towers(self) -> None:
        """Whether the towers have the whole network between them."""
        if not self.towers:
            return
        heads, hidden = map(sum, zip(*self.towers, strict=True))
        if len(self.towers) == 1 or min(map(min, self.towers)) < 1:
            raise SpecError("towers must be none, or at least two, each [heads, mlp width] from 1")
        if (heads, hidden) != (self.num_heads, self.mlp_width):
            raise SpecError(
                f"towers have {heads} heads and MLPs {hidden} wide between them; num_heads is "
                f"{self.num_heads} and mlp_width {self.mlp_width}"
            )

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.num_heads * self.head_dim

    @property
    def tower_sizes(self) -> tuple[tuple[int, int], ...]:
        """Width of the residual stream and of the MLP in each tower; one is the whole network."""
        towers = self.towers or ((self.num_heads, self.mlp_width),)
        return tuple((heads * self.head_dim, hidden) for heads, hidden in towers)

    @property
    def num_gates(self) -> int:
        """Outputs of the network that weigh the regression: one a tower, or none."""
        return len(self.tower_sizes) if self.regression else 0

    @property
    def max_lag(self) -> int:
        """The furthest a token looks back, in steps."""
        return self.lags[-1]

    @property
    def num_features(self) -> int:
        """Length of one token: what the past gives, static features, what is known beforehand."""
        return self.num_past + self.num_static + self.num_known

    @property
    def num_past(self) -> int:
        """Features of a token that follow from earlier values: lags, then a regression on them."""
        return self.num_lags + (1 if self.regression else 0)

    @property
    def num_lags(self) -> int:
        """Features of a token that are earlier values: fixed lags, then seasonal ones."""
        return len(self.lags) + (SEASON_LAGS if self.seasons else 0)

    @property
    def num_static(self) -> int:
        """Features of a token that are the same in all of a series."""
        level = 1 if self.scale_free else STATIC_FEATURES
        errors = REGRESSION_FEATURES if self.regression else 0
        return level + (SEASON_FLAGS if self.seasons else 0) + errors

    @property
    def num_known(self) -> int:
        """Features of a token known beforehand: calendar features, then covariates."""
        return (CALENDAR_FEATURES if self.calendar else 0) + self.num_covariates

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the head's distribution arguments, in order."""
        return HEAD_ARGUMENTS[self.head]

    @property
    def max_positions(self) -> int | None:
        """Most tokens a sequence may have; None where rotary scaling adapts to any length."""
        return None if self.rope_scaling == "dynamic" else self.max_context_length

    @property
    def num_parameters(self) -> int:
        """Number of trained weights."""
        block = sum(
            4 * width * width + 3 * width * hidden + 2 * width for width, hidden in self.tower_sizes
        )
        projection = (self.num_features + 1) * self.width
        rows = len(self.arguments) + self.num_gates
        return self.num_layers * block + projection + self.width + rows * (self.width + 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, one per field."""
        values = dataclasses.asdict(self)
        values["lags"] = list(self.lags)
        values["towers"] = [list(tower) for tower in self.towers]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelSpec:
        """Read what `to_dict` wrote. Raises SpecError for unknown, missing or ill-typed keys."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise SpecError(f"unknown model setting {unknown[0]!r}; known: {', '.join(fields)}")
        absent = [
            name
            for name, field in fields.items()
            if field.default is dataclasses.MISSING and name not in values
        ]
        if absent:
            raise SpecError(f"model setting {absent[0]!r} is missing")
        wanted: dict[str, type | tuple[type, ...]] = {
            "bool": bool,
            "str": str,
            "int": int,
            "float": (int, float),
        }
        for name, value in values.items():
            kind = wanted.get(str(fields[name].type))
            if kind is not None and (
                not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
            ):
                raise SpecError(f"{name} must be a {fields[name].type}, not {reprlib.repr(value)}")
        lags = values["lags"]
        if not isinstance(lags, list) or not all(type(lag) is int for lag in lags):
            raise SpecError("lags must be a list of whole numbers")
        towers = values.get("towers", [])
        if not isinstance(towers, list) or not all(
            isinstance(tower, list) and [type(size) for size in tower] == [int, int]
            for tower in towers
        ):
            raise SpecError("towers must be a list of pairs of whole numbers: [heads, mlp width]")
        pairs = tuple((heads, hidden) for heads, hidden in towers)
        return cls(**{**values, "lags": tuple(lags), "towers": pairs})


def default_mlp_width(width: int) -> int:
    """Hidden size of the published network's SwiGLU: two thirds of 4 x width, up to 256s."""
    hidden = int(2 * 4 * width / 3)
    return -(-hidden // 256) * 256
