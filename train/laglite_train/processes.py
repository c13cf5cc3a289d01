"""Where a run is computed: the accelerator, its processes, and the threads of each."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from laglite.errors import InputError
from laglite_train.config import RunConfig


@dataclass(frozen=True)
class Processes:
    """`devices` processes on each of `nodes` machines, each with `threads` on the CPU."""

    accelerator: str
    devices: int
    nodes: int
    threads: int

    @property
    def count(self) -> int:
        """Processes on all machines."""
        return self.devices * self.nodes

    @property
    def strategy(self) -> str:
        """What Lightning calls the way in which they work together."""
        return "ddp" if self.count > 1 else "auto"


def plan_processes(run: RunConfig) -> Processes:
    """The processes of a run; under torchrun, those that it has started.

    Raises InputError for what this machine does not have, or a batch that does not divide.
    """
    devices, nodes = run.devices, run.nodes
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if run.batch_size % (devices * nodes):
        raise InputError(
            f"run.batch_size {run.batch_size} does not divide among {devices * nodes} processes"
        )
    gpus = torch.cuda.device_count()
    if run.accelerator == "gpu" and not gpus:
        raise InputError("run.accelerator is gpu, but torch sees none; try nvidia-smi, or take cpu")
    on_gpu = gpus > 0 and run.accelerator != "cpu"
    if on_gpu and devices > gpus:
        raise InputError(f"run.devices is {devices}, but this machine has {gpus} GPUs")
    if run.precision == "16-mixed" and not on_gpu:
        raise InputError("run.precision 16-mixed needs a GPU, and there is none; take bf16-mixed")
    threads = run.threads or max(1, (os.cpu_count() or 1) // devices)
    return Processes("gpu" if on_gpu else "cpu", devices, nodes, threads)


def limit_threads(processes: Processes) -> None:
    """Set torch's threads; also for the processes that Lightning starts."""
    torch.set_num_threads(processes.threads)
    if processes.strategy == "ddp":
        os.environ["OMP_NUM_THREADS"] = str(processes.threads)
