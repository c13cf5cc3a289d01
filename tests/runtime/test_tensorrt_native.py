"""Backend `tensorrt` over doubles of CUDA and TensorRT: the code that no test can run on a GPU."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from laglite import Forecaster
from laglite.backends import BACKENDS
from laglite.backends.cuda_memory import Cuda, CudaBuffer, CudaStream
from laglite.backends.device import DEVICE_STEP, PREFILL
from laglite.backends.tensorrt_native import TensorRtNative, open_tensorrt
from laglite.bundle import open_bundle
from laglite.cli import main
from laglite.errors import BackendError, CapacityError
from laglite.kv_cache import PromptCache
from tests.cuda_double import CudaDouble, Error
from tests.tensorrt_double import TensorRtDouble, install

SERIES = [np.sin(np.arange(60 + 7 * row) / (3.0 + row)) * 10 + 40 * row for row in range(5)]
Compile = Callable[..., Result]

pytestmark = pytest.mark.filterwarnings("ignore:this model was trained with calendar features")


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TensorRtDouble:
    """TensorRT, CUDA and a GPU that are doubles, with an empty folder for engines."""
    module = TensorRtDouble(CudaDouble())
    install(monkeypatch, module)
    monkeypatch.setenv("LAGLITE_ENGINES", str(tmp_path / "engines"))
    return module


@pytest.fixture
def compile_(double: TensorRtDouble, tiny_bundle: Path) -> Compile:
    """`laglite compile` of the tiny model at small capacities."""

    def run(*more: str, series: int = 3) -> Result:
        sizes = ["--series", str(series), "--paths", "20", "--context", "300", "--horizon", "45"]
        return CliRunner().invoke(main, ["compile", str(tiny_bundle), *sizes, *more])

    return run


@pytest.fixture
def compiled(compile_: Compile) -> Path:
    done = compile_()
    assert done.exit_code == 0, done.output
    return Path(done.stdout.strip())


def test_forecasts_drawn_by_the_engine_are_those_of_the_cpu(
    double: TensorRtDouble, compiled: Path, tiny_bundle: Path
) -> None:
    arguments = {"horizon": 9, "num_samples": 17, "seed": 3}
    expected = Forecaster.load(tiny_bundle, backend="cpu").predict_batch(SERIES, **arguments)
    forecaster = Forecaster.load(tiny_bundle, backend="tensorrt")
    for _ in range(2):  # the second time over the same buffers and graphs
        found = forecaster.predict_batch(SERIES, **arguments)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.samples, theirs.samples, rtol=2e-4, atol=2e-4)
    # Two parts of five series a round. Each side of the step, and the prefill, runs once, is then
    # captured, and from there on is one launch of a graph.
    launches = 4 * (1 + 8)
    assert double.cuda.instantiated == 3
    assert double.cuda.launched_graphs == launches - 3


def test_half_precision_runs_with_caches_of_half_precision(
    double: TensorRtDouble, compile_: Compile, tiny_bundle: Path
) -> None:
    assert compile_("--precision", "fp16").exit_code == 0
    loaded = Forecaster.load(tiny_bundle, backend="tensorrt", precision="fp16")
    assert loaded.backend.device is not None
    assert loaded.backend.device.cache_dtype == "float16"
    found = loaded.predict(SERIES[0], horizon=4, num_samples=10, seed=1).samples
    expected = Forecaster.load(tiny_bundle, backend="cpu").predict(
        SERIES[0], horizon=4, num_samples=10, seed=1
    )
    np.testing.assert_allclose(found[:, 0], expected.samples[:, 0], rtol=0.02, atol=0.02)


def test_the_engines_are_proved_by_the_bundles_own_test_vectors(
    compiled: Path, tiny_bundle: Path
) -> None:
    done = CliRunner().invoke(main, ["verify", str(tiny_bundle), "--backend", "tensorrt"])
    assert done.exit_code == 0, done.output
    assert "device" in done.stdout
    assert "backend tensorrt" in done.stdout


def test_test_vectors_larger_than_the_engines_are_left_out_and_counted(
    double: TensorRtDouble, compile_: Compile, tiny_bundle: Path
) -> None:
    assert compile_("--context", "40").exit_code == 0
    done = CliRunner().invoke(main, ["verify", str(tiny_bundle), "--backend", "tensorrt"])
    assert done.exit_code == 0, done.output
    assert "test vectors were left out" in done.stderr
    assert compile_("--paths", "1", "--horizon", "2", "--rebuild").exit_code == 0
    done = CliRunner().invoke(main, ["verify", str(tiny_bundle), "--backend", "tensorrt"])
    assert done.exit_code == 1
    assert "engines" in done.stderr


def test_scores_and_streams_are_those_of_the_cpu(compiled: Path, tiny_bundle: Path) -> None:
    ours, theirs = (Forecaster.load(tiny_bundle, backend=name) for name in ("tensorrt", "cpu"))
    history, observed = SERIES[0][:50], SERIES[0][50:]
    found, expected = (each.score(history, observed) for each in (ours, theirs))
    np.testing.assert_allclose(found.log_prob, expected.log_prob, rtol=1e-4, atol=1e-4)
    streams = [each.stream(history) for each in (ours, theirs)]
    for value in observed:
        a, b = (stream.update(value) for stream in streams)
        assert a.cdf == pytest.approx(b.cdf, abs=1e-4)


@pytest.mark.usefixtures("compiled")
def test_embeddings_are_for_the_other_backends(tiny_bundle: Path) -> None:
    with pytest.raises(BackendError, match="no embeddings: use backend 'cuda' or 'cpu'"):
        Forecaster.load(tiny_bundle, backend="tensorrt").embed([1.0, 2.0])


def test_a_missing_engine_names_the_command_that_makes_it(
    double: TensorRtDouble, tiny_bundle: Path
) -> None:
    with pytest.raises(BackendError, match="no engines of .*laglite compile .*lag_llama_tiny"):
        Forecaster.load(tiny_bundle, backend="tensorrt")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("bundle_sha256", "0" * 64, "another version of the model .*000000000000, here"),
        ("version", "10.16.1", "made by tensorrt 10.16.1, here is 10.3.0"),
        ("flavour", "tensorrt_rtx", "made by tensorrt_rtx, here is tensorrt;"),
        ("precision", "fp16", "of precision fp16, not fp32"),
        ("gpu", "Orin (compute capability 8.7)", "made for Orin .*, here is Double"),
    ],
)
def test_a_stale_or_foreign_engine_is_refused_with_the_difference(
    compiled: Path, tiny_bundle: Path, key: str, value: str, message: str
) -> None:
    file = compiled / "engines.json"
    content = json.loads(file.read_text())
    content["target"][key] = value
    file.write_text(json.dumps(content))
    with pytest.raises(BackendError, match=f"{message}.*compile on this device: laglite compile"):
        Forecaster.load(tiny_bundle, backend="tensorrt")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "its sha256 is not the one"),
        (lambda path: path.unlink(), "cannot be read"),
    ],
)
def test_a_damaged_engine_is_refused_and_made_anew(
    compiled: Path,
    compile_: Compile,
    tiny_bundle: Path,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    damage(next(compiled.glob("step-*.engine")))
    with pytest.raises(BackendError, match=f"{message}.*--horizon 45 --rebuild"):
        Forecaster.load(tiny_bundle, backend="tensorrt")
    refused = compile_()
    assert refused.exit_code == 1
    assert "--rebuild" in refused.output
    assert compile_("--rebuild").exit_code == 0
    Forecaster.load(tiny_bundle, backend="tensorrt")


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 1}', '{"schema_version": 9}'])
def test_a_damaged_list_of_engines_is_refused(
    compiled: Path, compile_: Compile, tiny_bundle: Path, text: str
) -> None:
    (compiled / "engines.json").write_text(text)
    with pytest.raises(BackendError, match="engines.json: (damaged|schema version 9)"):
        Forecaster.load(tiny_bundle, backend="tensorrt")
    assert compile_().exit_code == 0
    Forecaster.load(tiny_bundle, backend="tensorrt")


def test_an_engine_file_elsewhere_is_not_opened(compiled: Path, tiny_bundle: Path) -> None:
    file = compiled / "engines.json"
    content = json.loads(file.read_text())
    content["engines"]["step"]["file"] = "../other.engine"
    file.write_text(json.dumps(content))
    with pytest.raises(BackendError, match="leaves the directory"):
        Forecaster.load(tiny_bundle, backend="tensorrt")


def test_an_engine_that_tensorrt_cannot_load_is_refused_in_its_words(
    compiled: Path, tiny_bundle: Path
) -> None:
    _replace_engine(compiled, "step", b"not an engine")
    with pytest.raises(BackendError, match="cannot load the engine of 'step': the engine's magic"):
        Forecaster.load(tiny_bundle, backend="tensorrt")


def test_an_engine_with_other_tensors_is_refused(compiled: Path, tiny_bundle: Path) -> None:
    prefill = next(compiled.glob("prefill-*.engine")).read_bytes()
    _replace_engine(compiled, "step", prefill)
    with pytest.raises(BackendError, match="engine of 'step' has other tensors"):
        Forecaster.load(tiny_bundle, backend="tensorrt")


def _replace_engine(compiled: Path, graph: str, content: bytes) -> None:
    from laglite.backends.engine_files import sha256

    file = compiled / "engines.json"
    manifest = json.loads(file.read_text())
    entry = manifest["engines"][graph]
    (compiled / entry["file"]).write_bytes(content)
    entry |= {"sha256": sha256(content), "size": len(content)}
    file.write_text(json.dumps(manifest))


def test_more_than_the_capacities_is_refused_with_the_command_that_compiles_them(
    compiled: Path, tiny_bundle: Path
) -> None:
    backend = open_tensorrt(open_bundle(tiny_bundle), "fp32")
    spec = open_bundle(tiny_bundle).spec
    tokens = np.zeros((1, 301, spec.num_features), np.float32)
    with pytest.raises(CapacityError, match="301 prompt tokens exceed the 300 .*--context 301"):
        backend.prefill(tokens, np.zeros((301, 4), np.float32), np.zeros((301, 4), np.float32))
    prompt = PromptCache([], [])
    with pytest.raises(CapacityError, match="21 paths exceed the 20 that .*--paths 21"):
        backend.decoder(prompt, 21, 4)
    with pytest.raises(CapacityError, match="46 steps exceed the 45 .*--horizon 46 --rebuild"):
        backend.decoder(prompt, 2, 45)


def test_more_series_than_the_capacity_are_encoded_in_parts(
    compiled: Path, tiny_bundle: Path
) -> None:
    ours = open_tensorrt(open_bundle(tiny_bundle), "fp32")
    theirs = Forecaster.load(tiny_bundle, backend="cpu").backend
    spec = open_bundle(tiny_bundle).spec
    random = np.random.default_rng(0)
    tokens = random.standard_normal((7, 5, spec.num_features)).astype(np.float32)
    cos, sin = random.standard_normal((2, 5, spec.head_dim // 2)).astype(np.float32)
    (found, caches), (expected, _) = (each.prefill(tokens, cos, sin) for each in (ours, theirs))
    assert len(caches) == 7
    for name in spec.arguments:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_a_device_without_memory_says_how_many_series_would_fit(
    double: TensorRtDouble, compiled: Path, tiny_bundle: Path
) -> None:
    backend = open_tensorrt(open_bundle(tiny_bundle), "fp32")
    assert backend.device is not None
    needed = backend.device.engines.decoding_bytes()  # type: ignore[attr-defined]
    double.cuda.size = int(0.7 * needed)
    with pytest.raises(BackendError, match="2 at once would fit; .*--series 2 .*--rebuild"):
        backend.device.allocate((needed,), "int8")
    double.cuda.size = int(0.2 * needed)
    with pytest.raises(BackendError, match="not even one fits"):
        backend.device.allocate((needed,), "int8")


def test_a_context_without_memory_is_an_error_that_names_it(
    double: TensorRtDouble, compiled: Path, tiny_bundle: Path
) -> None:
    forecaster = Forecaster.load(tiny_bundle, backend="tensorrt")
    double.context_bytes = 2 * double.cuda.size
    with pytest.raises(BackendError, match="memory: no 2097152.0 MiB for the work of prefill"):
        forecaster.predict(SERIES[0], horizon=3, num_samples=20)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("context", "cannot prepare the work of prefill: no kernel image is available$"),
        ("run", "could not run the engine: an illegal memory access was encountered$"),
    ],
)
def test_what_tensorrt_refuses_is_an_error_in_its_words(
    double: TensorRtDouble, compiled: Path, tiny_bundle: Path, broken: str, message: str
) -> None:
    forecaster = Forecaster.load(tiny_bundle, backend="tensorrt")
    double.broken.add(broken)
    with pytest.raises(BackendError, match=message):
        forecaster.predict(SERIES[0], horizon=3, num_samples=20)


def test_where_tensorrt_cannot_start_the_cpu_forecasts(
    double: TensorRtDouble, compiled: Path, tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    double.broken.add("runtime")
    with pytest.raises(BackendError, match="TensorRT cannot run here: CUDA initialization failure"):
        Forecaster.load(tiny_bundle, backend="tensorrt")
    assert Forecaster.load(tiny_bundle, backend="auto").backend.name == "cpu"
    assert "TensorRT cannot run here" in caplog.text


def test_more_paths_than_the_engine_draws_are_refused(compiled: Path, tiny_bundle: Path) -> None:
    forecaster = Forecaster.load(tiny_bundle, backend="tensorrt")
    with pytest.raises(BackendError, match="21 paths exceed the 20 .*laglite compile"):
        forecaster.predict(SERIES[0], horizon=3, num_samples=21)


def test_a_refused_capture_leaves_plain_launches_and_says_so(
    double: TensorRtDouble, compiled: Path, tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    double.cuda.refuse_capture = True
    forecaster = Forecaster.load(tiny_bundle, backend="tensorrt")
    found = forecaster.predict(SERIES[0], horizon=8, seed=0, num_samples=20).samples
    expected = Forecaster.load(tiny_bundle, backend="cpu").predict(
        SERIES[0], horizon=8, seed=0, num_samples=20
    )
    np.testing.assert_allclose(found, expected.samples, rtol=2e-4, atol=2e-4)
    assert double.cuda.launched_graphs == 0
    assert "without a CUDA graph" in caplog.text
    assert "cudaErrorStreamCaptureInvalidated" in caplog.text


def test_programs_refuse_buffers_that_do_not_suit_the_engine(
    compiled: Path, tiny_bundle: Path
) -> None:
    device = open_tensorrt(open_bundle(tiny_bundle), "fp32").device
    assert device is not None
    with pytest.raises(BackendError, match="no buffer for its input 'tokens'"):
        device.program(PREFILL, {})
    with pytest.raises(CapacityError, match="'values' has shape .* takes shapes from"):
        device.program(DEVICE_STEP, {"values": device.allocate((2, 2, 2), "float32")})
    with pytest.raises(BackendError, match="'values' is float64, the engine takes float32"):
        device.program(DEVICE_STEP, {"values": device.allocate((45, 3, 20), "float64")})


def test_memory_is_given_back(double: TensorRtDouble, compiled: Path, tiny_bundle: Path) -> None:
    forecaster = Forecaster.load(tiny_bundle, backend="tensorrt")
    forecaster.predict(SERIES[0], horizon=5, num_samples=20)
    assert double.cuda.used() > 0
    del forecaster
    assert double.cuda.used() == 0
    assert double.cuda.graphs == 0
    assert not double.cuda.streams


def test_memory_of_a_lost_device_goes_without_a_word(
    double: TensorRtDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    cuda = Cuda()
    buffer = CudaBuffer(CudaStream(cuda), (3, 2), "float16")
    monkeypatch.setattr(double.cuda, "cudaFree", lambda address: (Error.cudaErrorInvalidValue,))
    assert cuda.allocated == 12
    del buffer
    assert cuda.allocated == 0
    assert said == []


def test_a_buffer_keeps_what_is_written_and_begins_with_zeros(double: TensorRtDouble) -> None:
    stream = CudaStream(Cuda())
    buffer = CudaBuffer(stream, (3, 2), "float16")
    np.testing.assert_array_equal(buffer.read(), np.zeros((3, 2)))
    values = np.arange(6, dtype=np.float16).reshape(2, 3).T  # not in the order of memory
    buffer.write(values)
    np.testing.assert_array_equal(buffer.read(), values)
    with pytest.raises(ValueError, match="float32"):
        buffer.write(values.astype(np.float32))


def test_work_that_fails_while_it_is_captured_leaves_the_stream_usable(
    double: TensorRtDouble,
) -> None:
    stream = CudaStream(Cuda())

    def refused() -> None:
        raise BackendError("refused")

    with pytest.raises(BackendError, match="^refused$"):
        stream.capture(refused)
    assert double.cuda.graphs == 0
    np.testing.assert_array_equal(CudaBuffer(stream, (2,), "float32").read(), [0, 0])


def test_a_failed_call_names_cudas_error(double: TensorRtDouble) -> None:
    cuda = Cuda()
    with pytest.raises(BackendError, match="cudaFree failed with cudaErrorInvalidValue"):
        cuda.call("cudaFree", 12345)


def test_the_backend_is_one_of_those_to_choose(compiled: Path, tiny_bundle: Path) -> None:
    assert "tensorrt" in BACKENDS
    assert isinstance(Forecaster.load(tiny_bundle, backend="auto").backend, TensorRtNative)
