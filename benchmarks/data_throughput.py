"""Windows a second of the training data side, beside those of the training step, as one command.

    python benchmarks/data_throughput.py CONFIG [--data FOLDER] [--workers 0 --workers 2]
                                         [--output data_throughput.json]

Measured in turns, so that all see the same machine; figures are medians:
- the step alone: Lightning's loop (forward, backward, clipping, optimiser) over drawn batches;
- the data side alone: batches drawn, augmented and encoded, in this process (0 workers) or in
  worker processes;
- training: the same loop, fed by the data side. Data is no bottleneck where this is about as fast
  as the step alone.
With --output, Markdown is written beside the JSON.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import time
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from result_files import write_results
from torch.utils.data import DataLoader

from laglite_train.config import TrainConfig, read_config
from laglite_train.corpus import SeriesSet, read_corpus
from laglite_train.lightning_module import ForecastModule
from laglite_train.model import LagLlama
from laglite_train.training import SHORTEST_SERIES, quiet_lightning
from laglite_train.windows import Batch, TrainingBatches


class Clock(Callback):
    """Seconds from the end of the first step to that of the last."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        return self.ends[-1] - self.ends[0]


def train(config: TrainConfig, names: Sequence[str], loader: Iterable[Batch]) -> float:
    """Seconds that training takes for all batches of `loader` after the first."""
    torch.manual_seed(config.run.seed)
    model = LagLlama(config.model)
    model.initialise()
    clock = Clock()
    trainer = lightning.Trainer(
        devices=1,
        max_epochs=1,
        precision=config.run.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.optimiser.gradient_clip,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(ForecastModule(model, config.optimiser, config.run, names), loader)
    return clock.seconds


def draw(loader: Iterable[Batch]) -> float:
    """Seconds that the data side takes for all batches after the first."""
    batches = iter(loader)
    next(batches)
    begin = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - begin


def measure(
    corpus: Sequence[SeriesSet],
    config: TrainConfig,
    workers: Sequence[int],
    batches: int,
    repeats: int,
) -> dict[str, float]:
    """Median windows a second of the step, and of data side and training by number of workers."""
    data = TrainingBatches(
        corpus,
        config.model,
        config.sampling,
        batch_size=config.run.batch_size,
        steps=range(batches + 1),
        seed=config.run.seed,
        synthetic=config.synthetic,
        augmentation=config.augmentation,
    )
    drawn: Any = [data[index] for index in range(batches + 1)]  # a list will do for a Dataset
    fixed: DataLoader[Batch] = DataLoader(drawn, batch_size=None)
    measures = {"training step alone": partial(train, config, data.names, fixed)}
    for count in workers:
        loader = DataLoader(data, batch_size=None, num_workers=count)
        name = f"{count} workers" if count else "in one process"
        measures[f"data side alone, {name}"] = partial(draw, loader)
        measures[f"training, {name}"] = partial(train, config, data.names, loader)
    times: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, run in measures.items():
            times[name].append(run())
    windows = batches * config.run.batch_size
    return {name: windows / float(np.median(taken)) for name, taken in times.items()}


def to_markdown(rates: dict[str, float], about: dict[str, Any]) -> str:
    """A table of the rates, and under it what they were measured on."""
    step = rates["training step alone"]
    lines = [
        "# Windows a second: the data side beside the training step",
        "",
        "`python benchmarks/data_throughput.py CONFIG`, with the settings named below.",
        "",
        "| | windows/s | beside the step |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {rate:,.0f} | {rate / step:.2f} |" for name, rate in rates.items()]
    facts = ", ".join(f"{name} {value}" for name, value in about.items())
    return "\n".join([*lines, "", facts, ""])


@click.command()
@click.argument("config_path", metavar="CONFIG", type=click.Path(path_type=Path))
@click.option("--data", multiple=True, help="Folder or file of series, instead of the config's.")
@click.option("--workers", multiple=True, type=click.IntRange(0), default=(0, 2), show_default=True)
@click.option("--batches", type=click.IntRange(2), default=20, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Threads of the step; default: all cores.")
@click.option("--output", type=click.Path(path_type=Path), help="Write JSON, and Markdown beside.")
def main(
    config_path: Path,
    data: tuple[str, ...],
    workers: tuple[int, ...],
    batches: int,
    repeats: int,
    threads: int | None,
    output: Path | None,
) -> None:
    """Measure the data side and the training step of CONFIG."""
    config = read_config(config_path)
    if data:
        config = dataclasses.replace(config, data=data)
    torch.set_num_threads(threads or config.run.threads or os.cpu_count() or 1)
    begin = time.perf_counter()
    corpus = read_corpus([Path(path) for path in config.data], shortest=SHORTEST_SERIES)
    opened = time.perf_counter() - begin
    quiet_lightning()
    warnings.filterwarnings("ignore", message=".*(worker|val_dataloader|logger).*")
    rates = measure(corpus, config, workers, batches, repeats)
    processor = platform.processor() or platform.machine()
    about = {
        "config": config_path.name,
        "weights": config.model.num_parameters,
        "batch": config.run.batch_size,
        "contexts": " ".join(map(str, config.sampling.context_lengths)),
        "horizon": config.sampling.horizon,
        "sets": len(corpus),
        "series": sum(len(group.series) for group in corpus),
        "points": sum(group.points for group in corpus),
        "opened in seconds": round(opened, 3),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": config.run.precision,
        "torch": torch.__version__,
        "batches": batches,
        "repeats": repeats,
    }
    text = to_markdown(rates, about)
    click.echo(text, nl=False)
    if output is not None:
        write_results(output, {"about": about, "windows_per_second": rates}, text)


if __name__ == "__main__":
    main()
