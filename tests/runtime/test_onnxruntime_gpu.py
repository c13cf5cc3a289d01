"""The GPU's code of onnxruntime, run on the CPU's provider and memory: the same numbers."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from laglite import Forecaster, device_decoding
from laglite.backends import onnxruntime_device, onnxruntime_gpu
from laglite.backends.device import DEVICE_STEP, PREFILL, Buffer, Capacity
from laglite.backends.onnxruntime_cpu import OnnxRuntimeCpu
from laglite.backends.onnxruntime_device import (
    CapturedProgram,
    OrtBuffer,
    OrtDevice,
    allocate,
)
from laglite.backends.onnxruntime_gpu import OnnxRuntimeGpu
from laglite.backends.onnxruntime_session import CPU, CPU_PROVIDER, Engine, open_session
from laglite.bundle import Bundle, open_bundle
from laglite.errors import BackendError, DeviceMemoryError
from laglite.verification import verify

ENGINE = Engine("cuda", {CPU_PROVIDER: {}}, memory="cpu")
NO_ROOM = (
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::"
    "AllocateRawInternal(size_t, bool) Failed to allocate memory for requested buffer of size 4000"
)
TIMES: dict[str, Any] = {"start": "2024-01-01", "freq": "h"}


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def resident(bundle: Bundle, precision: str = "fp32") -> OnnxRuntimeGpu:
    """Draws on the host."""
    backend = OnnxRuntimeGpu(bundle, precision, ENGINE)
    backend.device = None
    return backend


def ragged(lengths: list[int]) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [20 + random.standard_normal(length).cumsum() for length in lengths]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_embeddings_are_those_of_the_cpu(bundle: Bundle, precision: str) -> None:
    (values,) = ragged([100])
    cpu = Forecaster(bundle, OnnxRuntimeCpu(bundle, precision, 1), 1)
    gpu = Forecaster(bundle, resident(bundle, precision), 1)
    np.testing.assert_array_equal(gpu.embed(values, **TIMES), cpu.embed(values, **TIMES))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_test_vectors_pass_as_on_the_cpu(bundle: Bundle, precision: str) -> None:
    expected = verify(bundle, OnnxRuntimeCpu(bundle, precision, 1))
    assert verify(bundle, resident(bundle, precision)) == expected


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_forecasts_are_those_of_the_cpu(bundle: Bundle, precision: str) -> None:
    series = ragged([5, 60, 60, 200])
    asked: dict[str, Any] = {"horizon": 20, "num_samples": 9, "seed": 4, **TIMES}
    ours = Forecaster(bundle, resident(bundle, precision), 3).predict_batch(series, **asked)
    cpu = Forecaster(bundle, OnnxRuntimeCpu(bundle, precision, 1), 1).predict_batch(series, **asked)
    for found, expected in zip(ours, cpu, strict=True):
        np.testing.assert_allclose(found.samples, expected.samples, rtol=1e-5, atol=1e-5)


def test_a_stream_goes_on_as_on_the_cpu(bundle: Bundle) -> None:
    history, news = ragged([40, 6])
    scores = []
    for backend in (resident(bundle), OnnxRuntimeCpu(bundle, "fp32", 1)):
        stream = Forecaster(bundle, backend, 1).stream(history, **TIMES)
        scores.append([stream.update(value).log_prob for value in news])
    np.testing.assert_allclose(*scores, rtol=1e-5)


def test_prompts_for_tensorrt_begin_where_their_memory_does(bundle: Bundle) -> None:
    """Which is aligned, as the addresses that it takes must be."""
    together, apart = resident(bundle), resident(bundle)
    apart._apart = True
    random = np.random.default_rng(0)
    tokens = random.standard_normal((3, 4, bundle.spec.num_features)).astype(np.float32)
    cos, sin = np.ones((2, 4, bundle.spec.head_dim // 2), np.float32)
    (found, prompts), (expected, rows) = (b.prefill(tokens, cos, sin) for b in (apart, together))
    for name in bundle.spec.arguments:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
    for prompt in prompts:
        assert all(each.address == each.value.data_ptr() for each in prompt.tensors.values())
    assert rows[1].tensors["prompt_key_0"].address % 256
    assert [prompt.tensors.keys() for prompt in prompts] == [row.tensors.keys() for row in rows]


def test_decoders_of_one_prompt_do_not_touch_each_other(bundle: Bundle) -> None:
    """Two at once, one a step ahead of the other, against one alone."""
    backend, spec = resident(bundle), bundle.spec
    random = np.random.default_rng(0)
    tokens = random.standard_normal((1, 4, spec.num_features)).astype(np.float32)
    cos, sin = np.ones((2, 6, spec.head_dim // 2), np.float32)
    _, (prompt,) = backend.prefill(tokens, cos[:4], sin[:4])
    following = random.standard_normal((2, 3, spec.num_features)).astype(np.float32)

    def run(decoder: Any, step: int) -> np.ndarray:
        decoder.tokens[:] = following[step]
        return np.array(decoder.step(cos[4 + step], sin[4 + step])["loc"])

    alone = backend.decoder(prompt, 3, 2)
    expected = [run(alone, 0), run(alone, 1)]
    one, other = backend.decoder(prompt, 3, 2), backend.decoder(prompt, 3, 2)
    found = [run(one, 0), run(one, 1)]
    late = [run(other, 0), run(other, 1)]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(late, expected)


def test_drawing_on_the_device_gives_the_samples_of_the_cpu(bundle: Bundle) -> None:
    backend = OnnxRuntimeGpu(bundle, "fp32", ENGINE)
    assert backend.device is not None
    series = ragged([30, 80, 80])
    asked: dict[str, Any] = {"horizon": 8, "num_samples": 7, "seed": 1, "refine": False, **TIMES}
    ours = Forecaster(bundle, backend, 1).predict_batch(series, **asked)
    cpu = Forecaster(bundle, OnnxRuntimeCpu(bundle, "fp32", 1), 1).predict_batch(series, **asked)
    for found, expected in zip(ours, cpu, strict=True):
        np.testing.assert_allclose(found.samples, expected.samples, rtol=2e-3, atol=2e-3)


def prefill_buffers(device: OrtDevice, bundle: Bundle, series: int, tokens: int) -> dict[str, Any]:
    spec, dim = bundle.spec, bundle.spec.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "tokens": (series, tokens, spec.num_features),
        "cos": (tokens, dim // 2),
        "sin": (tokens, dim // 2),
        "param_loc": (series, tokens),
    }
    for layer in range(spec.num_layers):
        shapes[f"past_key_{layer}"] = (series, spec.num_heads, dim + 1, 1)
        shapes[f"past_value_{layer}"] = (series, spec.num_heads, 1, dim)
    return {name: device.allocate(shape, "float32") for name, shape in shapes.items()}


@pytest.fixture
def device(bundle: Bundle) -> OrtDevice:
    files = bundle.precision("fp32")
    assert files.device_step is not None
    return OrtDevice(
        ENGINE, {PREFILL: files.prefill, DEVICE_STEP: files.device_step}, "float32", capture=True
    )


def test_programs_of_the_same_shapes_share_a_session(
    device: OrtDevice, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[dict[str, int]] = []

    def counting(*arguments: Any, sizes: Any = None, **options: Any) -> Any:
        if sizes is not None:
            opened.append(dict(sizes))
        return open_session(*arguments, sizes=sizes, **options)

    monkeypatch.setattr(onnxruntime_device, "open_session", counting)
    programs = []
    for series in (1, 1, 2, 1):
        buffers = prefill_buffers(device, bundle, series, 3)
        programs.append(device.program(PREFILL, buffers))
        programs[-1].launch()
        assert buffers["param_loc"].read().all()
    assert [sizes["series"] for sizes in opened] == [1, 2]
    assert opened[0]["tokens"] == 3
    assert opened[0]["past + 1"] == 1
    del programs[2]
    device.program(PREFILL, buffers)
    device.program(PREFILL, prefill_buffers(device, bundle, 2, 3))
    assert len(opened) == 3  # a session goes with its last program, and its memory with it


def test_buffers_that_do_not_fit_the_graph_are_refused(device: OrtDevice, bundle: Bundle) -> None:
    buffers = prefill_buffers(device, bundle, 2, 3)
    wrong: dict[str, Buffer] = {**buffers, "cos": device.allocate((4, 8), "float32")}
    with pytest.raises(ValueError, match=r"'cos' is \(4, 8\), not \['tokens', 8\]"):
        device.program(PREFILL, wrong)
    with pytest.raises(ValueError, match="is \\(4,\\), not of shape"):
        device.program(PREFILL, {**buffers, "cos": device.allocate((4,), "float32")})
    del buffers["sin"]
    with pytest.raises(ValueError, match="no buffer for the input 'sin'"):
        device.program(PREFILL, buffers)


def test_a_buffer_begins_with_zeros_and_takes_its_own_shape_and_type_alone(
    device: OrtDevice,
) -> None:
    buffer = device.allocate((2, 3), "float32")
    np.testing.assert_array_equal(buffer.read(), np.zeros((2, 3)))
    content = np.arange(6, dtype=np.float32).reshape(3, 2).T
    buffer.write(content)
    np.testing.assert_array_equal(buffer.read(), content)
    with pytest.raises(ValueError, match="for a buffer of float32"):
        buffer.write(content.T)
    with pytest.raises(ValueError, match="float64"):
        buffer.write(content.astype(np.float64))
    assert device.free_bytes() is None


def counter() -> bytes:
    """A graph that adds one to `step`, in place, and says the double."""
    step = helper.make_tensor_value_info("step", TensorProto.INT64, [1])
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [1])
        for name in ("next_step", "double")
    ]
    nodes = [
        helper.make_node("Add", ["step", "one"], ["next_step"]),
        helper.make_node("Add", ["next_step", "next_step"], ["double"]),
    ]
    graph = helper.make_graph(nodes, "counter", [step], outputs, [one])
    opset = helper.make_opsetid("", 17)
    model: onnx.ModelProto = helper.make_model(graph, ir_version=8, opset_imports=[opset])
    return model.SerializeToString()


class CapturingSession:
    """Runs as onnxruntime does with CUDA graphs: the run that captures one runs it twice."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.captured: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        number = options.get_run_config_entry("gpu_graph_id")
        if number not in self.captured:
            self.captured.add(number)
            self._session.run_with_iobinding(binding)
        self._session.run_with_iobinding(binding)


def test_capturing_a_graph_does_not_run_it_more_often_than_launched() -> None:
    session = CapturingSession(open_session(counter(), ENGINE))
    for number in (1, 2):
        step = allocate("cpu", (1,), "int64", "cuda")
        double = allocate("cpu", (1,), "int64", "cuda")
        buffers = {"step": step, "double": double}
        program = CapturedProgram(session, ENGINE, buffers, number)
        step.write(np.array([5]))
        for launched in range(1, 4):
            program.launch()
            assert step.read()[0] == 5 + launched
            assert double.read()[0] == 2 * (5 + launched)
    assert session.captured == {"1", "2"}


def test_nobody_asks_the_gpu_for_anything_while_a_graph_is_captured() -> None:
    """CUDA would refuse memory and copies to other threads, and the graph would be lost."""
    begun, going_on = threading.Event(), threading.Event()
    done: list[str] = []

    class Slow(CapturingSession):
        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            begun.set()
            assert going_on.wait(10)
            super().run_with_iobinding(binding, options)
            done.append("capture")

    step, other = (allocate("cpu", (1,), "int64", "cuda") for _ in range(2))
    session = open_session(counter(), ENGINE)
    captured = CapturedProgram(Slow(session), ENGINE, {"step": step}, 1)
    launched = onnxruntime_device.OrtProgram(session, ENGINE, {"step": other})
    dropped = [onnxruntime_device.OrtProgram(session, ENGINE, {"step": other})]
    asked: dict[str, Callable[[], Any]] = {
        "memory": lambda: allocate("cpu", (1,), "int64", "cuda"),
        "a copy up": lambda: other.write(np.array([3])),
        "a copy down": other.read,
        "a launch": launched.launch,
        "the end of a program": dropped.clear,
        "a session": lambda: open_session(counter(), replace(ENGINE, memory="cuda")),
    }

    def ask(what: str) -> None:
        asked[what]()
        done.append(what)

    with ThreadPoolExecutor(len(asked) + 1) as pool:
        capturing = pool.submit(captured.launch)
        assert begun.wait(10)
        others = [pool.submit(ask, what) for what in asked]
        assert not wait(others, 0.2).done
        going_on.set()
        for each in (capturing, *others):
            each.result(10)
    assert done[0] == "capture"


def test_capturing_over_caches_copies_no_more_than_the_counter(
    device: OrtDevice, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against launches without a graph; all paths at step 0, and again over what is left there."""
    files = bundle.precision("fp32")
    assert files.device_step is not None
    session = open_session(files.device_step, ENGINE)
    read: list[tuple[int, ...]] = []
    reading = OrtBuffer.read

    def noted(buffer: OrtBuffer) -> np.ndarray:
        read.append(buffer.shape)
        return reading(buffer)

    monkeypatch.setattr(OrtBuffer, "read", noted)
    made = device._made_up()
    found = []
    for kind in ("launched", "captured"):
        buffers = {n: device.allocate(a.shape, str(a.dtype)) for n, a in made.items()}
        program = onnxruntime_device.OrtProgram(session, ENGINE, buffers)
        if kind == "captured":
            program = CapturedProgram(CapturingSession(session), ENGINE, buffers, 1)
        for _ in range(2):
            for name, array in made.items():
                if not name.startswith("suffix"):
                    buffers[name].write(array)
            read.clear()
            program.launch()
            program.launch()
            assert set(read) <= {(1,)}
            found.append({name: reading(buffers[name]) for name in ("values", "arguments")})
    for other in found[1:]:
        for name, array in other.items():
            np.testing.assert_array_equal(array, found[0][name])


SIZES = {
    "Expand": [1], "Pad": [1], "Range": [0, 1, 2], "Reshape": [1], "Slice": [1, 2, 3, 4],
    "Split": [1], "Squeeze": [1], "Tile": [1], "Unsqueeze": [1], "ConstantOfShape": [0],
}  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("graph", [PREFILL, DEVICE_STEP])
def test_no_size_in_a_graph_depends_on_what_a_buffer_holds(
    bundle: Bundle, precision: str, graph: str
) -> None:
    """A CUDA graph could not wait for the host to read it."""
    model = onnx.load(getattr(bundle.precision(precision), graph), load_external_data=False)
    held = {given.name for given in model.graph.input}
    for node in model.graph.node:
        for place in SIZES.get(node.op_type, ()):
            assert not held & set(node.input[place : place + 1]), node.name
        if node.op_type != "Shape" and held & set(node.input):
            held |= set(node.output)


def test_outputs_without_a_buffer_are_not_kept() -> None:
    step = allocate("cpu", (1,), "int64", "cuda")
    program = onnxruntime_device.OrtProgram(open_session(counter(), CPU), CPU, {"step": step})
    program.launch()
    assert step.read()[0] == 1


class FailingValues:
    """onnxruntime whose memory is full."""

    class OrtValue:
        @staticmethod
        def ortvalue_from_shape_and_type(*_: Any) -> None:
            raise RuntimeError(NO_ROOM)


def test_no_room_for_paths_says_what_was_asked_for_what_is_free_and_what_would_fit(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, spec = resident(bundle), bundle.spec
    tokens = np.zeros((1, 2, spec.num_features), np.float32)
    rows = np.zeros((2, spec.head_dim // 2), np.float32)
    _, (prompt,) = backend.prefill(tokens, rows, rows)
    monkeypatch.setattr(onnxruntime_device, "import_onnxruntime", FailingValues)
    monkeypatch.setattr(onnxruntime_device, "free_memory", lambda: 3_000_000)
    monkeypatch.setattr(onnxruntime_gpu, "free_memory", lambda: 3_000_000)
    monkeypatch.setattr(backend, "_engine", Engine("cuda", {CPU_PROVIDER: {}}, memory="cuda"))
    with pytest.raises(DeviceMemoryError) as caught:
        backend.decoder(prompt, 1000, 50)
    bytes_of_a_path = 50 * 2 * spec.num_layers * spec.num_heads * spec.head_dim * 4
    text = str(caught.value)
    assert text.startswith(f"1,000 paths of 51 steps need {1000 * bytes_of_a_path / 1e9:.3g} GB")
    assert "of which 0.003 GB are free" in text
    assert f"{3_000_000 // bytes_of_a_path:,} paths fit" in text
    assert "backend 'cpu'" in text


def test_a_prompt_that_does_not_fit_says_how_many_series_it_was_for(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, spec = resident(bundle), bundle.spec

    class Full:
        def __init__(self, session: Any) -> None:
            self.io_binding, self.get_outputs = session.io_binding, session.get_outputs

        def run_with_iobinding(self, binding: Any) -> None:
            raise RuntimeError(NO_ROOM)

    monkeypatch.setattr(backend, "_prefill", Full(backend._prefill))
    monkeypatch.setattr(onnxruntime_device, "free_memory", lambda: 3000)
    tokens = np.zeros((7, 2, spec.num_features), np.float32)
    rows = np.zeros((2, spec.head_dim // 2), np.float32)
    message = r"prompts of 7 series at once: .* no room for 4e-06 GB, of which 3e-06 GB are free"
    with pytest.raises(DeviceMemoryError, match=message):
        backend.prefill(tokens, rows, rows)


def test_a_batch_that_does_not_fit_says_what_would(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecaster = Forecaster(bundle, OnnxRuntimeGpu(bundle, "fp32", ENGINE), 1)
    sampler = forecaster._on_device
    assert sampler is not None
    monkeypatch.setattr(sampler, "_budget", 5_000_000)
    monkeypatch.setattr(onnxruntime_device, "import_onnxruntime", FailingValues)
    asked: dict[str, Any] = {"horizon": 40, "num_samples": 4000, "seed": 0, **TIMES}
    with pytest.raises(DeviceMemoryError) as caught:
        forecaster.predict_batch(ragged([30, 30]), **asked)
    text = str(caught.value)
    assert text.startswith("1 series x 4,000 paths of 32 prompt tokens and 40 steps need about")
    assert "backend 'cuda': the device's memory has no room for" in text
    found = re.search(r"; about ([\d,]+) series x ([\d,]+) paths fit$", text)
    assert found is not None
    series, paths = (int(number.replace(",", "")) for number in found.groups())
    one = device_decoding.series_bytes(
        bundle.spec, forecaster.backend.device, Capacity(1, paths, 32, 40)
    )
    assert series * one <= 5_000_000 < (series + 1) * one
    more = device_decoding.series_bytes(
        bundle.spec, forecaster.backend.device, Capacity(1, paths + 1, 32, 40)
    )
    assert series == 1
    assert more > 5_000_000


def test_without_cuda_graphs_a_device_goes_on_and_says_so(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The CPU's provider takes no graphs: it refuses the options that ask for one."""
    monkeypatch.setattr(onnxruntime_device, "GRAPHS_FROM", (1, 0))
    engine = Engine("cuda", {CPU_PROVIDER: {}}, memory="cpu", captures=True)
    backend = OnnxRuntimeGpu(bundle, "fp32", engine)
    assert isinstance(backend.device, OrtDevice)
    assert not backend.device.captures
    assert caplog.records[0].levelname == "WARNING"
    assert caplog.messages[0].endswith("it runs without CUDA graphs, which takes longer")
    assert OnnxRuntimeGpu(bundle, "fp32", engine, capture=False).device is not None
    assert len(caplog.messages) == 1


def test_what_a_failed_capture_leaves_in_its_thread_does_not_meet_the_launches_without_graphs(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """CUDA tells a thread's last error to whoever asks next in that thread."""
    left = threading.local()
    launch = onnxruntime_device.OrtProgram.launch

    def failing(self: onnxruntime_device.OrtProgram) -> None:
        if isinstance(self, CapturedProgram):
            left.error = "operation not permitted when stream is capturing"
        if hasattr(left, "error"):
            raise BackendError(left.error)
        launch(self)

    def without_graphs(*arguments: Any, capture: bool = False, **options: Any) -> Any:
        return open_session(*arguments, **options)

    monkeypatch.setattr(onnxruntime_device, "open_session", without_graphs)
    monkeypatch.setattr(onnxruntime_device.OrtProgram, "launch", failing)
    engine = Engine("cuda", {CPU_PROVIDER: {}}, memory="cpu", captures=True)
    monkeypatch.setattr(onnxruntime_device, "GRAPHS_FROM", (1, 0))
    backend = OnnxRuntimeGpu(bundle, "fp32", engine)
    assert isinstance(backend.device, OrtDevice)
    assert not backend.device.captures
    assert caplog.messages[0].startswith(
        "operation not permitted when stream is capturing; it runs"
    )


def test_an_onnxruntime_whose_cuda_graphs_read_freed_memory_makes_none(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "laglite")
    for version, said in (("1.30.0", 1), ("1.31.0", 0), ("1.40.0.dev20270101", 0)):
        monkeypatch.setattr(onnxruntime, "__version__", version)
        engine = Engine("cuda", {CPU_PROVIDER: {}}, memory="cpu", captures=True)
        backend = OnnxRuntimeGpu(bundle, "fp32", engine)
        assert isinstance(backend.device, OrtDevice)
        refused = "onnxruntime 1.30.0 does not launch CUDA graphs rightly"
        assert sum(refused in text for text in caplog.messages) == said
        assert len(caplog.messages) == 1  # else the provider itself refuses
        caplog.clear()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_device_step_that_gives_other_numbers_than_the_cpu_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """As if the second launch looked back on other values."""
    launch = onnxruntime_device.OrtProgram.launch

    def astray(self: onnxruntime_device.OrtProgram) -> None:
        window = self._tensors.get("window")
        if isinstance(window, OrtBuffer) and self._tensors["step"].value.numpy()[0] == 1:
            window.write(window.read() + 0.5)
        launch(self)

    OnnxRuntimeGpu(bundle, precision, ENGINE)
    monkeypatch.setattr(onnxruntime_device.OrtProgram, "launch", astray)
    with pytest.raises(BackendError, match="'cuda' gives wrong numbers: its device step is"):
        OnnxRuntimeGpu(bundle, precision, ENGINE)


def test_a_device_step_that_draws_otherwise_than_the_cpu_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the noise were another's, in the first launch alone."""
    launch = onnxruntime_device.OrtProgram.launch

    def astray(self: onnxruntime_device.OrtProgram) -> None:
        launch(self)
        values = self._tensors.get("values")
        if isinstance(values, OrtBuffer) and self._tensors["step"].value.numpy()[0] == 2:
            drawn = values.read()
            drawn[1] = drawn[1, :, ::-1]
            values.write(drawn)

    monkeypatch.setattr(onnxruntime_device.OrtProgram, "launch", astray)
    with pytest.raises(BackendError, match="'cuda' gives wrong numbers: its device step is"):
        OnnxRuntimeGpu(bundle, "fp32", ENGINE)


def test_a_step_that_runs_more_often_than_launched_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    launch = onnxruntime_device.OrtProgram.launch

    def twice(self: onnxruntime_device.OrtProgram) -> None:
        launch(self)
        launch(self)

    monkeypatch.setattr(onnxruntime_device.OrtProgram, "launch", twice)
    for captures in (False, True):
        engine = Engine("cuda", {CPU_PROVIDER: {}}, memory="cpu", captures=captures)
        with pytest.raises(BackendError, match="one launch of the device step ran 2 times"):
            OnnxRuntimeGpu(bundle, "fp32", engine)
    assert caplog.messages == []


def test_a_run_that_fails_otherwise_is_explained() -> None:
    class Failing(CapturingSession):
        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            raise RuntimeError("CUDA error cudaErrorNoKernelImageForDevice:no kernel image is")

    step = allocate("cpu", (1,), "int64", "cuda")
    session = Failing(open_session(counter(), ENGINE))
    program = onnxruntime_device.OrtProgram(session, ENGINE, {"step": step})
    with pytest.raises(BackendError, match="backend 'cuda': this onnxruntime holds no code for"):
        program.launch()


def test_a_copy_that_fails_is_an_error_of_the_backend() -> None:
    class Lost:
        def update_inplace(self, array: Any) -> None:
            raise RuntimeError("CUDA failure 46: CUDA-capable device(s) is/are busy or unavailable")

        numpy = shape = data_ptr = update_inplace

    buffer = OrtBuffer(Lost(), (1,), "int64", "cuda", "cuda", 0)
    with pytest.raises(BackendError, match="backend 'cuda': the GPU is busy or unavailable; see"):
        buffer.write(np.array([1]))
    with pytest.raises(BackendError, match="backend 'cuda': "):
        buffer.read()
