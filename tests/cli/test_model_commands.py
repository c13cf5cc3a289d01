"""`laglite info`, `verify`, `export` and `train`, and what they say without their extras."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from laglite import Forecaster, __version__
from laglite.backends import Availability, gpu_engines, selection
from laglite.backends.device import Capacity
from laglite.bundle import SHIPPED, open_bundle
from laglite.cli import COMMANDS, main
from laglite.errors import BackendError
from tests.conftest import GOLDEN
from tests.cpu_device import CpuDevice, DoubleBackend

CONFIG = """
output: {output}
data: [{data}]
model: {{num_layers: 1, num_heads: 1, head_dim: 4, mlp_width: 8, lags: [0, 1, 6],
        scaling: iqr, history: carry, context_length: 8, max_context_length: 64}}
sampling: {{horizon: 4, context_lengths: [8]}}
run: {{epochs: 1, steps_per_epoch: 3, batch_size: 4, validation_windows: 2}}
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A training config of some seconds, with its data."""
    values = [np.sin(np.arange(60) / 3).tolist() for _ in range(3)]
    table = pa.table(
        {
            "item_id": ["a", "b", "c"],
            "start": ["2024-01-01"] * 3,
            "freq": ["D"] * 3,
            "target": pa.array(values, pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, tmp_path / "waves.parquet")
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(output=tmp_path / "run", data=tmp_path / "waves.parquet"))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_the_version_is_the_distributions() -> None:
    assert run("--version").stdout.strip() == f"laglite, version {__version__}"


def test_info_describes_a_model(tiny_bundle: Path) -> None:
    result = run("info", tiny_bundle)
    assert result.exit_code == 0
    for expected in (
        "60,579 weights",
        "studentT (df, loc, scale)",
        "84, up to 1092",
        "onnxruntime",
    ):
        assert expected in result.stdout


@pytest.mark.parametrize(
    "changed",
    [
        {"created_with": None},
        {"created_with": "hand"},
        {"evaluation": {"relative_wql": 0.5}},
        {"evaluation": {"relative_wql": 0.5, "data_sets": 3}},
    ],
)
def test_info_takes_manifests_that_say_less_of_their_making(
    tiny_bundle: Path, tmp_path: Path, changed: dict[str, object]
) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    manifest = json.loads((copy / "manifest.json").read_text()) | changed
    (copy / "manifest.json").write_text(json.dumps(manifest))
    result = run("info", copy)
    assert result.exit_code == 0
    assert "accuracy" not in result.stdout
    assert ("unspecified" in result.stdout) == ("created_with" in changed)


def test_narrow_terminals_cut_no_path_and_no_figure(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = run("verify", tiny_bundle, "--threads", "1").stdout
    monkeypatch.setenv("COLUMNS", "40")
    assert run("verify", tiny_bundle, "--threads", "1").stdout == wide
    assert str(tiny_bundle) in "".join(run("info", tiny_bundle).stdout.split())


BACKENDS = [
    Availability("cpu", "onnxruntime 1.0"),
    Availability("cuda", "onnxruntime 1.0", "there is no NVIDIA driver", "install it"),
]


def test_info_lists_what_can_run_here_and_what_to_do_about_the_rest(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laglite.cli.info.availability", lambda: BACKENDS)
    lines = run("info", tiny_bundle).stdout.splitlines()
    assert [line.rstrip() for line in lines[-2:]] == [
        "backend cpu   onnxruntime 1.0",
        "backend cuda  no: there is no NVIDIA driver; install it",
    ]


def test_info_is_also_one_json_object(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laglite.cli.info.availability", lambda: BACKENDS)
    content = json.loads(run("info", tiny_bundle, "--json").stdout)
    assert content["model"] == "lag_llama_tiny"
    assert content["backends"] == [
        {
            "available": True,
            "backend": "cpu",
            "version": "onnxruntime 1.0",
            "problem": "",
            "remedy": "",
        },
        {
            "available": False,
            "backend": "cuda",
            "version": "onnxruntime 1.0",
            "problem": "there is no NVIDIA driver",
            "remedy": "install it",
        },
    ]


def test_what_the_library_logs_is_a_note_beside_the_result(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = BackendError("backend 'cuda' cannot run: there is no NVIDIA driver; install it")

    def refuse(bundle: object, precision: str) -> None:
        raise refusal

    monkeypatch.setattr(selection, "_has_cuda", lambda: True)
    monkeypatch.setattr(gpu_engines, "open_cuda", refuse)
    result = run("verify", tiny_bundle, "--threads", "1")
    assert result.exit_code == 0
    assert f"backend 'cpu', since no GPU can be used: {refusal}" in result.stderr
    assert "NVIDIA" not in result.stdout


@pytest.mark.parametrize("command", ["verify", "bench", "forecast", "evaluate", "stream"])
def test_every_command_that_runs_a_model_takes_every_backend(command: str) -> None:
    text = " ".join(run(command, "--help").stdout.split())
    assert "[auto|cpu|cuda|onnxruntime-tensorrt|tensorrt]" in text


def test_a_backend_that_cannot_run_here_is_one_clear_error(tiny_bundle: Path) -> None:
    result = run("verify", tiny_bundle, "--backend", "cuda", "--precision", "int8")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "Error: backend 'cuda': precision 'int8' is for the CPU; "
        "use precision 'fp32' or 'fp16', or backend 'cpu'\n"
    )


def test_verify_proves_a_bundle_and_states_the_difference(tiny_bundle: Path) -> None:
    result = run("verify", tiny_bundle, "--threads", "1")
    assert result.exit_code == 0
    assert "verified, largest difference" in result.stdout


@pytest.mark.parametrize("model", ["base", "nano"])
def test_verify_takes_every_precision_of_the_shipped_models(model: str) -> None:
    for precision in open_bundle(SHIPPED / model).precisions:
        options = ["--backend", "cpu", "--precision", precision, "--threads", "1"]
        result = run("verify", model, *options)
        assert result.exit_code == 0, result.stderr
        assert "device" not in result.stdout


def test_verify_goes_through_a_device_that_draws(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(tiny_bundle)
    device = CpuDevice(bundle, capacity=Capacity(2, 8, 32, 12))
    backend = DoubleBackend(bundle, "fp32", device)
    monkeypatch.setattr("laglite.cli.verify.open_backend", lambda *_: backend)
    result = run("verify", tiny_bundle)
    assert result.exit_code == 0
    heading, *rows = result.stdout.splitlines()
    assert heading.split()[-2:] == ["decoding", "device"]
    last = [row.split()[-1] for row in rows if row.split()[0].isdigit()]
    assert "-" in last  # cases beyond the capacity
    assert any(text != "-" and 0 < float(text) < 1e-4 for text in last)


def test_verify_fails_where_the_numbers_are_others(tiny_bundle: Path, tmp_path: Path) -> None:
    """Weights changed together with their hash: only running the vectors can tell."""
    import hashlib

    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    weights = np.fromfile(copy / "fp32" / "weights.bin", "<f4") * np.float32(1.01)
    weights.tofile(copy / "fp32" / "weights.bin")
    manifest = json.loads((copy / "manifest.json").read_text())
    digest = hashlib.sha256((copy / "fp32" / "weights.bin").read_bytes()).hexdigest()
    manifest["files"]["fp32/weights.bin"]["sha256"] = digest
    (copy / "manifest.json").write_text(json.dumps(manifest))
    result = run("verify", copy)
    assert result.exit_code == 1
    assert "verification failed: largest difference" in result.stderr


def test_a_published_checkpoint_becomes_a_bundle_that_forecasts(tmp_path: Path) -> None:
    result = run("export", GOLDEN / "lag_llama_tiny.ckpt", "--output", tmp_path / "bundle")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "bundle")
    assert "lag-llama checkpoint, 60,579 weights, head studentT" in result.stderr
    forecast = Forecaster.load(tmp_path / "bundle").predict(
        range(100), horizon=2, start="2024-01-01", freq="h"
    )
    assert forecast.samples.shape == (100, 2)


def test_export_needs_nothing_that_only_training_needs(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['lightning', 'yaml', 'pyarrow', 'pandas']))\n"
        "from laglite.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["export", GOLDEN / "lag_llama_tiny.ckpt", "--output", tmp_path / "bundle"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"some text"])
def test_export_refuses_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    result = run("export", tmp_path / "x.ckpt", "--output", tmp_path / "bundle")
    assert (result.exit_code, "not a readable checkpoint" in result.stderr) == (1, True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]


def test_a_trained_model_is_exported_and_forecasts(config: Path, tmp_path: Path) -> None:
    trained = run("train", config)
    assert trained.exit_code == 0, trained.stderr
    assert trained.stdout.strip() == str(tmp_path / "run" / "best.ckpt")
    exported = run("export", trained.stdout.strip(), "--output", tmp_path / "bundle")
    assert exported.exit_code == 0, exported.stderr
    forecaster = Forecaster.load(tmp_path / "bundle")
    forecast = forecaster.predict([1, 2, 3], horizon=2, start="2024-01-01", freq="D")
    assert forecast.samples.shape == (100, 2)


def test_a_finished_run_is_not_overwritten(config: Path) -> None:
    assert run("train", config).exit_code == 0
    again = run("train", config)
    assert (again.exit_code, "add --resume to go on" in again.stderr) == (1, True)


def test_train_names_the_key_that_is_wrong(config: Path) -> None:
    config.write_text(config.read_text().replace("batch_size: 4", "batch_size: four"))
    result = run("train", config)
    assert result.exit_code == 1
    assert "run.batch_size must be of type int, not 'four'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "blocked", "extra"),
    [
        (["train", "config.yaml"], "torch", "train"),
        (["export", "x.ckpt", "--output", "y"], "torch", "export"),
        (["checkpoint", "nano", "--output", "y"], "onnx", "export"),
        (["forecast", "-", "--horizon", "2"], "onnxruntime", "cpu"),
        (["forecast", "x.parquet", "--horizon", "2"], "pyarrow", "tables"),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_adds_it(
    tiny_bundle: Path, arguments: list[str], blocked: str, extra: str
) -> None:
    code = (
        "import sys\n"
        f"sys.modules[{blocked!r}] = None\n"
        "from laglite.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    if arguments[0] == "forecast":
        arguments = [*arguments, "--model", str(tiny_bundle)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input="1\n2\n3\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"pip install 'laglite[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
