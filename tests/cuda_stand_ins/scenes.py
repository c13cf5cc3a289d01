"""What laglite does over the stand-ins, each scene in a process of its own: `scenes NAME OPTIONS`.

Kernels compute nothing, so what a backend must prove by numbers before it is used (the probe, and
what a rehearsal compares) is left out here. A scene returns what it found, to be printed as JSON.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from laglite import Forecaster, LagliteError
from laglite.backends import probe
from laglite.backends.append_graph import append_graph
from laglite.backends.device import DEVICE_STEP, Capacity
from laglite.backends.gpu_engines import CUDA
from laglite.backends.onnxruntime_device import OrtDevice
from laglite.backends.onnxruntime_session import open_session
from laglite.bundle import locate, open_bundle, shipped_models
from laglite.decoding import PathRequest
from laglite.device_decoding import DeviceSampler, series_bytes

Found = dict[str, Any]
TIMES: dict[str, Any] = {"start": "2024-01-01", "freq": "h"}
PRECISIONS = ("fp32", "fp16")
PROMPT = {"series": 4, "tokens": 32, "past": 0, "past + 1": 1, "past + tokens + 1": 33}
STEPS = {"series": 4, "paths": 20, "steps": 24, "context + 1": 33}
RUNTIME = ctypes.CDLL("libcudart.so.13")
RUNTIME.stand_in_peak.restype = ctypes.c_size_t


def placement() -> Found:
    """The nodes that are not CUDA's, and how many are, of each graph that a forecast runs."""
    found = {}
    for model in shipped_models():
        bundle = open_bundle(locate(model))
        for precision in PRECISIONS:
            files = bundle.precision(precision)
            assert files.device_step is not None
            graphs = {
                "prefill": open_session(files.prefill, CUDA, sizes=PROMPT),
                "device_step": open_session(files.device_step, CUDA, sizes=STEPS),
                "step": open_session(files.step, CUDA),
                "append": open_session(append_graph(bundle.spec, files.cache_dtype), CUDA),
            }
            for graph, session in graphs.items():
                found[f"{model} {precision} {graph}"] = _placed(session)
    return found


def _placed(session: Any) -> Found:
    ours, others = 0, []
    for part in session.get_provider_graph_assignment_info():
        if part.ep_name == CUDA.provider:
            ours += len(part.get_nodes())
        else:
            others += [f"{node.op_type} on {part.ep_name}" for node in part.get_nodes()]
    return {"ours": ours, "others": others}


def forecast(
    model: str = "base",
    precision: str = "fp32",
    series: int = 4,
    paths: int = 20,
    context: int = 100,
    horizon: int = 24,
    memory: int = 40 << 30,
    left: int = 40 << 30,
    times: int = 2,
) -> Found:
    """The same forecast `times` over, on a device of `memory` bytes, after loading of `left`.

    Returns whether it captures, laglite's warnings, and the batches that were tried.
    """
    _resize(memory)
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("laglite").addHandler(handler)
    forecaster = Forecaster.load(model, backend="cuda", precision=precision)
    _resize(left)
    batches = _record_batches()
    for number in range(times):
        _mark(f"forecast {number}")
        forecaster.predict_batch(
            _series(series, context), horizon=horizon, num_samples=paths, context_length=context,
            seed=0, refine=False, **TIMES,
        )  # fmt: skip
    _mark("end")
    device: Any = forecaster.backend.device
    return {"captures": device.captures, "warnings": warnings, "batches": batches}


def threads() -> Found:
    """Forecasts of new sizes and streams on one model, and forecasts of another, all at once."""
    failed: list[str] = []
    shared = Forecaster.load("base", backend="cuda", precision="fp32")

    def forecasts(forecaster: Forecaster) -> None:
        (values,) = _series(1, 60)
        for paths in range(10, 30):
            forecaster.predict(values, horizon=8, num_samples=paths, refine=False, **TIMES)

    def streams() -> None:
        (values,) = _series(1, 100)
        for length in range(2, len(values)):
            stream = shared.stream(values[:length], context_length=length, **TIMES)
            stream.update(values[length])

    def another() -> None:
        forecasts(Forecaster.load("nano", backend="cuda", precision="fp32"))

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except LagliteError as error:
            failed.append(str(error))

    work: list[Callable[[], None]] = [lambda: forecasts(shared), streams, another]
    running = [threading.Thread(target=guarded, args=(each,)) for each in work]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return {"failed": failed}


def _series(count: int, length: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [20 + random.normal(size=length).cumsum() for _ in range(count)]


def _record_batches() -> list[Found]:
    """A list that gets every batch that is decoded from here on, with predicted and used bytes."""
    batches: list[Found] = []
    decode = DeviceSampler._decode
    RUNTIME.stand_in_peak()
    before = RUNTIME.stand_in_peak()

    def recorded(self: DeviceSampler, size: Capacity, requests: Sequence[PathRequest]) -> Any:
        predicted = size.series * series_bytes(self._spec, self._device, size)
        batch = {**dataclasses.asdict(size), "predicted": predicted, "fits": False}
        batches.append(batch)
        drawn = decode(self, size, requests)
        batch |= {"fits": True, "used": RUNTIME.stand_in_peak() - before}
        return drawn

    DeviceSampler._decode = recorded  # type: ignore[method-assign]
    return batches


def _rehearse(device: OrtDevice, allowed: float) -> None:
    """`OrtDevice.rehearse` without the numbers."""
    buffers = {}
    for name, array in device._made_up().items():
        buffers[name] = device.allocate(array.shape, str(array.dtype))
        buffers[name].write(array)
    program = device.program(DEVICE_STEP, buffers)
    for _ in range(2):
        program.launch()


def _mark(text: str) -> None:
    """Write it to the account."""
    RUNTIME.account(b"mark %s", text.encode())


def _resize(memory: int) -> None:
    RUNTIME.stand_in_resize(ctypes.c_size_t(memory))


if __name__ == "__main__":
    probe.probe = lambda *_: None
    OrtDevice.rehearse = _rehearse  # type: ignore[assignment,method-assign]
    scenes: dict[str, Callable[..., Found]] = {
        scene.__name__: scene for scene in (placement, forecast, threads)
    }
    print(json.dumps(scenes[sys.argv[1]](**json.loads(sys.argv[2]))))
