"""Sessions of onnxruntime on the execution provider that was asked for, and on no other."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from laglite.backends.library_errors import explain
from laglite.errors import BackendError, missing

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
HIDDEN = "hidden"  # the prefill graph's output of states; older graphs have none
# Where these run is where the graph runs; a few numbers of shapes may be worked out elsewhere.
HEAVY_OPERATORS = ("MatMul", "Gemm", "Softmax")
# Held by whoever asks anything of a GPU: while one thread captures a CUDA graph, CUDA refuses other
# threads memory and copies, and the graph is lost too.
GPU_LOCK = threading.RLock()
ERRORS_ALONE = 3  # severity of onnxruntime's log


@dataclass(frozen=True)
class Engine:
    """Execution providers of onnxruntime under one backend's name, the one that must work first.

    `memory` is where tensors that stay are kept, "cpu" or "cuda"; `captures` is whether the
    provider turns a graph of fixed shapes into one CUDA graph.
    """

    backend: str
    providers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    memory: str = "cuda"
    captures: bool = False

    @property
    def provider(self) -> str:
        """The provider that must work."""
        return next(iter(self.providers))

    def plain(self) -> Engine:
        """The same without TensorRT."""
        providers = {n: given for n, given in self.providers.items() if n != TENSORRT_PROVIDER}
        return replace(self, providers=providers)


CPU = Engine("cpu", {CPU_PROVIDER: {}}, memory="cpu")


def import_onnxruntime(extra: str = "cpu") -> Any:
    """The module onnxruntime. Raises MissingDependencyError, which names `extra`."""
    # From 1.29 on it reports its use to its makers, and keeps a device id in the home directory.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise missing("onnxruntime", extra, "forecasting") from error
    return onnxruntime


def require_states(session: Any, graph: Path) -> None:
    """Raise BackendError if a prefill graph, which `session` has loaded, yields no states."""
    if HIDDEN not in {output.name for output in session.get_outputs()}:
        raise BackendError(
            f"{graph}: the graph has no output {HIDDEN!r}, which embeddings are; an older laglite "
            "exported it: export the model again"
        )


def open_session(
    graph: Path | bytes,
    engine: Engine,
    *,
    precision: str = "fp32",
    threads: int = 1,
    trace: Path | None = None,
    sizes: Mapping[str, int] | None = None,
    capture: bool = False,
) -> Any:
    """An InferenceSession of a graph's file or bytes on `engine`.

    `trace` is a path at which onnxruntime's profile begins, if given; `sizes` fixes dimensions of
    the graph by name. With `capture` all of it must run on the engine, to become a CUDA graph.
    Raises BackendError if onnxruntime refuses, or would run it elsewhere.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    on_gpu = engine.memory != "cpu"
    options.log_severity_level = 4 if on_gpu else ERRORS_ALONE  # what it logs is raised here
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, size in (sizes or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    if trace is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(trace)
    providers = {name: dict(given) for name, given in engine.providers.items()}
    if capture:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers[engine.provider]["enable_cuda_graph"] = "1"
    if on_gpu:
        # The CUDA provider warns of every ScatterND by the log of the process, not the session's.
        ort.set_default_logger_severity(ERRORS_ALONE)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        # It would take one block for all results of the second run, beside what the first took.
        options.enable_mem_pattern = False
    # It would join a product with the sum after it, and hide the product from the 8-bit kernels.
    disabled = ["MatMulAddFusion"] if precision == "int8" else []
    source = graph if isinstance(graph, bytes) else str(graph)
    try:
        with GPU_LOCK if on_gpu else nullcontext():
            session = ort.InferenceSession(
                source,
                options,
                providers=list(providers.items()),
                disabled_optimizers=disabled,
                enable_fallback=0,  # it would print, and go on with the CPU
            )
    except Exception as error:  # onnxruntime's own exceptions share no public base class
        label = "its own graph" if isinstance(graph, bytes) else str(graph)
        if engine.memory == "cpu":
            raise BackendError(f"{label}: onnxruntime cannot load this graph: {error}") from error
        fault = explain(str(error))
        raise BackendError(f"backend {engine.backend!r} cannot load {label}: {fault}") from error
    _check(session, engine)
    return session


def _check(session: Any, engine: Engine) -> None:
    """Raise BackendError if the session does not run where it should."""
    actual = session.get_providers()
    if actual[:1] != [engine.provider]:
        raise BackendError(
            f"backend {engine.backend!r}: onnxruntime runs on {actual[0]} instead of "
            f"{engine.provider}; laglite info says why, or use backend 'cpu'"
        )
    if engine.memory == "cpu" or not hasattr(session, "get_provider_graph_assignment_info"):
        return
    strays = Counter(
        (part.ep_name, node.op_type)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
        if part.ep_name != engine.provider and node.op_type in HEAVY_OPERATORS
    )
    if strays:
        listing = ", ".join(f"{count} {kind} on {name}" for (name, kind), count in strays.items())
        raise BackendError(
            f"backend {engine.backend!r}: onnxruntime gave a part of the graph to another "
            f"provider ({listing}); update onnxruntime-gpu, or use backend 'cpu'"
        )
