"""Long runs in parts: finished forecasts are kept as files, so that a run that was cut goes on.

Beside OUTPUT, the folder OUTPUT.parts holds `plan.json`, which says what run the parts belong to,
and a file for each finished part in the output's own format. When all are there, they are joined to
OUTPUT, which thus appears whole, and the folder goes.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from laglite.atomic_file import replacing
from laglite.errors import InputError, missing
from laglite.forecast_writer import file_format
from laglite.randomness import fresh_seed

PLAN = "plan.json"


class ForecastParts:
    """The parts of one run; `seed` is that of the run, also when it goes on."""

    def __init__(self, output: Path, plan: Mapping[str, Any], seed: int | None) -> None:
        """Begin a run, or go on with one of the same plan.

        Without a seed a new run draws one and a resumed run keeps its own. Raises InputError if the
        folder holds parts of another run, or cannot be written.
        """
        self.output = output
        self.folder = output.with_name(f"{output.name}.parts")
        file = self.folder / PLAN
        if file.exists():
            self.seed = self._check_plan(file, plan, seed)
            return
        self.seed = fresh_seed() if seed is None else seed
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be written ({error.strerror})") from error
        with replacing(file) as temporary:
            temporary.write_text(json.dumps({**plan, "seed": self.seed}, indent=1) + "\n")

    def _check_plan(self, file: Path, plan: Mapping[str, Any], seed: int | None) -> int:
        advice = f"remove the folder {self.folder}, or choose another output"
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            kept = int(stored["seed"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file}: damaged ({error}); {advice}") from error
        wanted = {**plan, "seed": kept if seed is None else seed}
        for name, value in wanted.items():
            if stored.get(name) != value:
                raise InputError(
                    f"{self.folder}: holds parts of another run, with another {name}; repeat that "
                    f"run to finish it, or {advice}"
                )
        return kept

    def path(self, number: int) -> Path:
        """The file of a part; whoever writes it does so whole or not at all."""
        return self.folder / f"{number:06d}{file_format(self.output)}"

    def join(self, count: int) -> None:
        """Parts 0 .. count - 1, one after the other, become the output. Raises InputError."""
        parts = [self.path(number) for number in range(count)]
        with replacing(self.output) as temporary:
            JOIN[file_format(self.output)](parts, temporary)
        shutil.rmtree(self.folder)


def _join_rows(parts: Sequence[Path], output: Path, *, header: bool, packed: bool) -> None:
    with _packed(output) if packed else output.open("wb") as target:
        for number, part in enumerate(parts):
            with gzip.open(part) if packed else part.open("rb") as source:
                first = source.readline() if header else b""
                if number == 0:
                    target.write(first)
                shutil.copyfileobj(source, target)


@contextmanager
def _packed(output: Path) -> Iterator[IO[bytes]]:
    """A gzip file without name and time, so that the same forecasts are the same bytes."""
    with output.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as target:
        yield cast("IO[bytes]", target)


def _join_json(parts: Sequence[Path], output: Path) -> None:
    with output.open("w", encoding="utf-8") as target:
        for number, part in enumerate(parts):
            records = part.read_text(encoding="utf-8").strip()
            target.write("[" if number == 0 else ",")
            target.write(records[1:-1].rstrip())
        target.write("\n]\n")


def _join_parquet(parts: Sequence[Path], output: Path) -> None:
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing("pyarrow", "tables", "writing Parquet") from error
    with pq.ParquetWriter(output, pq.read_schema(parts[0])) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part))


JOIN: dict[str, Callable[[Sequence[Path], Path], None]] = {
    ".csv": partial(_join_rows, header=True, packed=False),
    ".csv.gz": partial(_join_rows, header=True, packed=True),
    ".json": _join_json,
    ".jsonl": partial(_join_rows, header=False, packed=False),
    ".jsonl.gz": partial(_join_rows, header=False, packed=True),
    ".parquet": _join_parquet,
}
