"""Requests and responses: what JSON is taken and given. Limits are checked beside (`requests`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
    model_validator,
)

from laglite.arguments import FLOAT32_MAX
from laglite.forecast import DEFAULT_QUANTILES
from laglite.frequency import parse_frequency, parse_timestamp

LARGEST_SEED = 2**53 - 1  # that every JSON reader takes exactly
LONGEST_NAME = 200
MOST_KEYS = 100  # of an object: each unknown one is an error of its own


def _as_time(text: str) -> str:
    parse_timestamp(text)
    return text


def _as_frequency(text: str) -> str:
    parse_frequency(text)
    return text


Value = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Values = Annotated[list[Value | None], Field(description="null where missing."), FailFast()]
Time = Annotated[
    str,
    Field(max_length=64, description="ISO time of the first value; goes with `freq`."),
    AfterValidator(_as_time),
]
Freq = Annotated[
    str,
    Field(max_length=64, description="pandas alias such as h, D, 15min, MS."),
    AfterValidator(_as_frequency),
]
Horizon = Annotated[int, Field(ge=1, description="How many steps ahead.")]
Samples = Annotated[int, Field(ge=1, description="Sample paths.")]
Seed = Annotated[
    int, Field(ge=0, le=LARGEST_SEED, description="Makes the samples repeatable; null: a new one.")
]
Levels = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1), FailFast()]
InnerLevels = Annotated[
    list[Annotated[float, Field(ge=1e-6, le=1 - 1e-6)]], Field(min_length=1), FailFast()
]
Context = Annotated[int, Field(ge=1, description="Tokens of history; null: the model's default.")]
ModelName = Annotated[
    str, Field(max_length=LONGEST_NAME, description="One of /models; null: the first of them.")
]
Covariates = Annotated[
    list[Annotated[list[Value | None], Field(fail_fast=True)]],
    Field(
        description="A row for each value and each step ahead; null is allowed in the history.",
        fail_fast=True,
    ),
]
Nonnegative = Annotated[bool, Field(description="No forecast below zero.")]
Quantiles = Annotated[
    dict[str, list[float]], Field(description="Level to the values of each step.")
]
WEEK: list[JsonValue] = [11.2, 12.9, None, 14.1, 15.3, 9.8, 8.7]


class JsonRequest(BaseModel):
    """A JSON body: no unknown fields, no texts in place of numbers, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > MOST_KEYS:
            raise ValueError(f"{len(given):,} fields, of which most must be unknown")
        return given


class _Timed(JsonRequest):
    """Something with a time axis."""

    start: Time | None = None
    freq: Freq | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> _Timed:
        if (self.start is None) != (self.freq is None):
            raise ValueError("start and freq go together: give both, or none")
        return self


class Series(_Timed):
    """One series."""

    values: Annotated[Values, Field(min_length=1)]
    id: str | None = Field(None, max_length=LONGEST_NAME)
    covariates: Covariates | None = None


class ForecastRequest(JsonRequest):
    """Series to forecast."""

    series: Annotated[list[Series], Field(min_length=1), FailFast()]
    horizon: Horizon
    model: ModelName | None = None
    quantiles: Levels = list(DEFAULT_QUANTILES)
    samples: Samples = 100
    seed: Seed | None = None
    context: Context | None = None
    nonnegative: Nonnegative = False
    include_samples: bool = Field(False, description="Answer the sample paths too.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "series": [{"id": "shop", "values": WEEK * 4, "start": "2024-01-01",
                                "freq": "D"}],
                    "horizon": 7,
                    "quantiles": [0.1, 0.5, 0.9],
                    "seed": 1,
                }
            ]
        }
    )  # fmt: skip


class SeriesForecast(BaseModel):
    """The forecast of one series; lists have an entry for each step."""

    id: str | None
    timestamps: list[str] | None = Field(description="null for a series without times.")
    mean: list[float]
    quantiles: Quantiles
    samples: list[list[float]] | None = Field(description="Paths, each a list of steps.")


class ForecastResponse(BaseModel):
    """Forecasts in the order of the request's series."""

    model: str
    horizon: int
    seed: int = Field(description="Repeats these samples, in company or alone.")
    forecasts: list[SeriesForecast]
    warnings: list[str]


class ScoreRequest(_Timed):
    """Observed values to score, given the values before them."""

    history: Annotated[Values, Field(min_length=1)]
    observed: Annotated[Values, Field(min_length=1)]
    model: ModelName | None = None
    context: Context | None = None
    covariates: Covariates | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"history": WEEK * 4, "observed": [11.0, 12.5], "start": "2024-01-01", "freq": "D"}
            ]
        }
    )


class ScoreResponse(BaseModel):
    """For each observed value, null where it is missing or the model gives no number."""

    model: str
    cdf: list[float | None] = Field(description="Probability of a value at most as large.")
    log_prob: list[float | None] = Field(description="Log density in data units.")
    warnings: list[str]


class StreamRequest(_Timed):
    """How to open a stream; see `Forecaster.stream`."""

    history: Values = []
    model: ModelName | None = None
    context: Context | None = None
    refresh: Annotated[int, Field(ge=1, description="Values that share one scale.")] | None = None
    horizon: Annotated[int, Field(ge=1, description="Longest forecast that will be asked for.")] = 1
    warm_up: Annotated[int, Field(ge=1, description="Values before the first prediction.")] = 1
    alarm_rate: float = Field(0.01, gt=0, le=0.5, description="Share of values called outside.")
    adaptive: bool = Field(False, description="Let the alarm's level follow the alarms.")

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"history": WEEK * 4, "start": "2024-01-01", "freq": "D"}]}
    )


class StreamState(BaseModel):
    """A stream, held in the memory of the service."""

    id: str
    model: str
    values: int = Field(description="Values taken since it was opened, missing ones included.")
    missing: int
    ready: bool = Field(description="Whether there is a prediction of the next value.")
    next_timestamp: str | None = Field(description="Time of the value to come.")
    alarm_level: float = Field(description="Share of values that the alarm's interval leaves out.")
    idle_seconds: float = Field(description="Without use for so long, the stream ends.")


class StreamValues(JsonRequest):
    """The next values of a stream, in order."""

    values: Annotated[Values, Field(min_length=1)]
    quantiles: InnerLevels = [0.1, 0.5, 0.9]

    model_config = ConfigDict(json_schema_extra={"examples": [{"values": [11.4, None]}]})


class StreamUpdate(BaseModel):
    """What was predicted of a value before it came; null where nothing was."""

    value: float | None
    cdf: float | None
    log_prob: float | None
    outside: bool


class NextValue(BaseModel):
    """What is predicted of the value to come."""

    timestamp: str | None
    quantiles: dict[str, float | None] = Field(description="null where the model has no number.")


class StreamUpdates(BaseModel):
    """An update for each value, and the prediction of the next; null if there is none."""

    updates: list[StreamUpdate]
    next: NextValue | None
    stream: StreamState


class StreamForecastRequest(JsonRequest):
    """A forecast of a stream's next values."""

    horizon: Horizon
    quantiles: Levels = list(DEFAULT_QUANTILES)
    samples: Samples = 100
    seed: Seed | None = None
    nonnegative: Nonnegative = False
    include_samples: bool = False

    model_config = ConfigDict(json_schema_extra={"examples": [{"horizon": 1, "seed": 1}]})


ShortText = Annotated[str | None, Field(min_length=1, max_length=LONGEST_NAME)]


class TableQuery(BaseModel):
    """How a table is to be read; what is left out is guessed."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("table", max_length=LONGEST_NAME, description="For messages.")
    id_column: ShortText = None
    time_column: ShortText = None
    target_column: ShortText = None
    freq: ShortText = None
    time_zone: ShortText = None
    delimiter: str | None = Field(None, pattern=r'^[^\r\n"]$')
    decimal: str | None = Field(None, pattern=r"^[.,]$")
    date_order: Literal["dmy", "mdy"] | None = Field(
        None, description="Of dates with the year last: the day first, or the month."
    )
    wide: bool = Field(False, description="Each column beside the times is a series.")


class TableSeries(BaseModel):
    """A series of a table, as /forecast takes it, and the times of its values."""

    id: str | None
    values: list[float | None]
    start: str | None
    freq: str | None
    timestamps: list[str] | None


class TableResponse(BaseModel):
    """The series of a table, and what was guessed or filled in."""

    series: list[TableSeries]
    notes: list[str]


class ModelInfo(BaseModel):
    """A model that is served."""

    name: str
    parameters: int
    context: int = Field(description="Default tokens of history.")
    most_positions: int | None = Field(description="context + horizon - 1 is at most this.")
    covariates: int
    precision: str
    license: str


class ModelsResponse(BaseModel):
    """The models, the default first, and this service's limits."""

    version: str
    models: list[ModelInfo]
    limits: dict[str, float]


class Health(BaseModel):
    """Whether the service lives, and takes requests now."""

    live: bool
    ready: bool
    detail: str
