"""`laglite stream`."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click
import numpy as np

from laglite.atomic_file import check_place
from laglite.cli.completion import complete_model, complete_path
from laglite.cli.forecast import parse_inner_quantiles
from laglite.cli.model_options import model_options, note
from laglite.errors import InputError, LagliteWarning, StateError
from laglite.forecaster import Forecaster
from laglite.reading import Columns, read_series
from laglite.streaming.interruption import Interrupted, Interruption
from laglite.streaming.messages import LONGEST_MESSAGE
from laglite.streaming.mqtt_bridge import Broker, MqttBridge
from laglite.streaming.session import OpeningHistory, OutputSettings, Session, StreamSettings
from laglite.streaming.state_file import read_state, write_state


def _host_and_port(
    _: click.Context, __: click.Parameter, text: str | None
) -> tuple[str, int | None] | None:
    """`HOST` or `HOST:PORT`; wrong usage otherwise."""
    if text is None:
        return None
    host, _colon, port = text.partition(":")
    if not host or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise click.BadParameter(f"{text!r} is not HOST or HOST:PORT")
    return host, int(port) if port else None


@click.command()
@click.option(
    "--history",
    "history_file",
    metavar="FILE",
    shell_complete=complete_path,
    help="CSV or Parquet file of one series: the values before the first.",
)
@click.option("--freq", help="pandas alias such as h, D, 15min; by default the history's.")
@click.option("--start", help="Time of the first value, where values come without times.")
@click.option(
    "--model",
    shell_complete=complete_model,
    help="Bundle directory, or a shipped model's name.  [default: base]",
)
@click.option("--context", type=click.IntRange(1), help="Tokens of history; the model's default.")
@click.option(
    "--refresh",
    type=click.IntRange(1),
    help="Values that share one scale.  [default: the model's context]",
)
@click.option(
    "--warm-up",
    type=click.IntRange(1),
    help="Observed values before the first prediction, --history's included.  "
    "[default: the model's context]",
)
@click.option(
    "--quantiles",
    default="0.1,0.5,0.9",
    show_default=True,
    callback=parse_inner_quantiles,
    help="Comma-separated levels.",
)
@click.option(
    "--alarm-rate",
    type=float,
    default=0.01,
    show_default=True,
    help="Share of values that raise a false alarm.",
)
@click.option(
    "--adaptive-alarm",
    is_flag=True,
    help="Let the alarm's level follow the alarms, where the model is not calibrated.",
)
@click.option("--every", type=click.IntRange(1), help="A forecast after each so many values.")
@click.option("--horizon", type=click.IntRange(1), help="How many steps --every forecasts.")
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Sample paths of --every.",
)
@click.option("--seed", type=int, help="Makes --every repeatable.")
@click.option(
    "--state",
    "state_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Go on from FILE if it is there; keep the stream in it.",
)
@click.option(
    "--state-every",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Lines after which the state is saved; also at the end.",
)
@click.option(
    "--replay",
    is_flag=True,
    help="The input begins anew: leave out as many lines as the state has seen.",
)
@click.option(
    "--mqtt",
    callback=_host_and_port,
    metavar="HOST[:PORT]",
    help="Messages of a broker instead of standard input.",
)
@click.option("--topic", help="Topic of the values.")
@click.option("--output-topic", help="Topic of the results.  [default: TOPIC/forecast]")
@click.option("--username", help="For the broker; the password is in LAGLITE_MQTT_PASSWORD.")
@click.option("--tls", is_flag=True, help="Encrypted connection, port 8883 by default.")
@click.option("--client-id", help="Name for the broker.  [default: from the topic]")
@model_options  # fmt: skip
def stream(
    history_file: str | None,
    freq: str | None,
    start: str | None,
    model: str | None,
    context: int | None,
    refresh: int | None,
    warm_up: int | None,
    quantiles: tuple[float, ...],
    alarm_rate: float,
    adaptive_alarm: bool,
    every: int | None,
    horizon: int | None,
    samples: int,
    seed: int | None,
    state_file: Path | None,
    state_every: int,
    replay: bool,
    mqtt: tuple[str, int | None] | None,
    topic: str | None,
    output_topic: str | None,
    username: str | None,
    tls: bool,
    client_id: str | None,
    backend: str,
    precision: str,
    threads: int | None,
) -> None:
    """Judge values as they come: one a line on stdin, one JSON line each on stdout.

    A line is a number, or JSON such as {"ds": "2024-01-01 05:00", "y": 12.5}. Each result has what
    was predicted of the value (cdf, log_prob, alarm) and quantiles of the next one.
    """
    _check_usage(history_file, every, horizon, replay, state_file, mqtt, topic)
    if state_file is not None:
        check_place(state_file)
    forecaster = Forecaster.load(model, backend=backend, precision=precision, threads=threads)
    history, freq = _opening(history_file, start, freq)
    settings = StreamSettings(
        freq=freq,
        context=context,
        refresh=refresh,
        warm_up=forecaster.spec.context_length if warm_up is None else warm_up,
        alarm_rate=alarm_rate,
        adaptive=adaptive_alarm,
        precision=precision,
    )
    output = OutputSettings(quantiles, every or 0, horizon or 1, samples)
    with _warnings_as_notes():
        session = Session(forecaster, settings, output, history=history, seed=seed)
    if state_file is not None and state_file.exists():
        _restore(session, state_file)

    def save() -> None:
        if state_file is not None:
            write_state(state_file, session.state())

    with Interruption().handling() as interruption, warnings.catch_warnings():
        warnings.simplefilter("ignore", LagliteWarning)  # said when the stream was opened
        if mqtt is None:
            _pump(session, interruption, save, state_every, replay=replay)
        else:
            host, port = mqtt
            password = os.environ.get("LAGLITE_MQTT_PASSWORD")
            port = port or (8883 if tls else 1883)
            broker = Broker(host, port, username, password, tls, client_id)
            to = output_topic or f"{topic}/forecast"
            MqttBridge(session, broker, str(topic), to, note, save).run(interruption)
    note(session.summary())


def _check_usage(
    history_file: str | None,
    every: int | None,
    horizon: int | None,
    replay: bool,
    state_file: Path | None,
    mqtt: tuple[str, int | None] | None,
    topic: str | None,
) -> None:
    """Options that need each other."""
    for wrong, message in (
        (history_file == "-" and mqtt is None, "--history -: the values come from there"),
        ((every is None) != (horizon is None), "--every and --horizon go together"),
        (replay and state_file is None, "--replay needs --state"),
        (replay and mqtt is not None, "--replay is for standard input"),
        ((mqtt is None) != (topic is None), "--mqtt and --topic go together"),
    ):
        if wrong:
            raise click.UsageError(message)


def _opening(
    history_file: str | None, start: str | None, freq: str | None
) -> tuple[OpeningHistory, str | None]:
    """The values before the first, and the frequency."""
    if history_file is None:
        if start is not None and freq is None:
            raise click.UsageError("--start needs --freq")
        return OpeningHistory(np.empty(0), start), freq
    if start is not None:
        raise click.UsageError("--start is for streams without --history, which has its own times")
    series = read_series(history_file, Columns(), freq, note)
    if len(series) != 1:
        raise InputError(f"{history_file}: {len(series)} series; a stream continues one")
    (one,) = series
    found = freq if one.freq is None else one.freq.alias
    return OpeningHistory(one.values, one.start), found


def _restore(session: Session, state_file: Path) -> None:
    state = read_state(state_file)
    try:
        session.restore(state)
    except StateError as error:
        raise StateError(f"{state_file}: {error}") from error
    note(f"{state_file}: going on after line {session.counts.lines:,}")


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LagliteWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        note(f"Warning: {message}")


def _pump(
    session: Session,
    interruption: Interruption,
    save: Callable[[], None],
    state_every: int,
    *,
    replay: bool,
) -> None:
    """Lines of standard input to results, until its end, a signal, or a reader that has gone."""
    if sys.stdin is None or sys.stdout is None:
        raise InputError(f"standard {'input' if sys.stdin is None else 'output'}: is closed")
    lines = sys.stdin.buffer
    if replay:
        _leave_out(lines, session.counts.lines, interruption)
    while line := _read_line(lines, interruption):
        result = json.dumps(session.take(line))
        try:
            sys.stdout.write(result + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return  # without saving: the state must not be ahead of what was put out
        if session.counts.lines % state_every == 0:
            save()
    save()


def _read_line(lines: BinaryIO, interruption: Interruption) -> bytes:
    """The next line; nothing at the end, or where the process was asked to end.

    Of a line that is too long only the beginning is kept: no memory grows with the input.
    """
    try:
        with interruption.allowed():
            line = lines.readline(LONGEST_MESSAGE + 1)
            rest = line
            while len(rest) > LONGEST_MESSAGE and not rest.endswith(b"\n"):
                rest = lines.readline(LONGEST_MESSAGE + 1)
    except Interrupted:
        return b""
    return line


def _leave_out(lines: BinaryIO, count: int, interruption: Interruption) -> None:
    """Pass over lines that the state has seen. Raises InputError if there are fewer."""
    for number in range(count):
        if not _read_line(lines, interruption) and not interruption.asked:
            raise InputError(
                f"standard input ends after {number:,} lines, but the state has seen {count:,}; "
                "with --replay the input must begin anew"
            )
