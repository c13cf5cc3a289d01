"""`laglite finetune`: a bundle and a table, and one clear message for everything else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from laglite import Forecaster
from laglite.bundle import open_bundle
from laglite.cli import main
from laglite.evaluation import backtest
from laglite_export.bundle_weights import load_bundle_model
from laglite_train import finetuning
from laglite_train.lightning_module import ForecastModule
from tests.conftest import GOLDEN

HORIZON = 6
OPTIONS = ("--horizon", HORIZON, "--steps", 10, "--batch", 8, "--threads", 1, "--samples", 20)


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(each) for each in ("finetune", *arguments)])


@pytest.fixture(scope="module", autouse=True)
def keep_interrupt_handler() -> Iterator[None]:
    """Lightning ignores further interrupts once it has seen one."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long table of two hourly series."""
    path = tmp_path_factory.mktemp("data") / "waves.csv"
    hours = np.datetime64("2024-01-01T00:00") + np.arange(150) * np.timedelta64(1, "h")
    random = np.random.default_rng(0)
    rows = ["name,when,load"]
    for name, level in (("north", 10), ("south", 300)):
        values = level * (
            1 + 0.4 * np.sin(np.arange(150) / 4) + random.normal(scale=0.02, size=150)
        )
        rows += [f"{name},{t},{v:.4f}" for t, v in zip(hours, values, strict=True)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def tuned(waves: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of a run of the tiny model, and its bundle."""
    output = tmp_path_factory.mktemp("tuned") / "waves-model"
    done = run(
        "--model", tiny_bundle, "--data", waves, "--output", output, *OPTIONS, "--windows", 2,
        "--context", 24, "--learning-rate", 3e-3, "--license", "CC0-1.0", "--freeze", "last-1",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return done, output


def test_the_table_and_the_bundle_are_the_results(tuned: Any, waves: Path) -> None:
    done, output = tuned
    lines = done.stdout.splitlines()
    assert lines[-1].strip() == str(output)
    assert "2 series, 4 windows of 6 steps, 24 values" in lines[0]
    assert [line.split("  ")[0].strip() for line in lines[2:6]] == [
        "fine-tuned", "zero-shot", "seasonal naive", "seasonal naive (point)",
    ]  # fmt: skip
    assert "columns: id 'name', time 'when', target 'load'" in done.stderr
    assert "values of 2 series; 4 windows of 6 values to validate on" in done.stderr
    assert "the last 12 values of each series held back" in done.stderr
    assert "context 24, learning rate 0.003, best of 10 steps: 10: validation WQL" in done.stderr
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_the_manifest_tells_how_the_model_came_about(tuned: Any, tiny_bundle: Path) -> None:
    bundle = open_bundle(tuned[1])
    assert (bundle.name, bundle.spec.context_length) == ("waves-model", 24)
    assert bundle.manifest["license"] == "CC0-1.0"
    training = bundle.manifest["training"]
    assert training["origin"] == "fine-tuned"
    assert training["base"]["name"] == "lag_llama_tiny"
    assert training["base"]["context_length"] == open_bundle(tiny_bundle).spec.context_length
    assert training["data"] == [{"name": "waves", "series": 2, "points": 2 * (150 - 12 - 12)}]
    assert training["split"] == {"horizon": 6, "held_back_windows": 2, "validation_windows": 4}
    assert (training["context_length"], training["learning_rate"]) == (24, 3e-3)
    assert (training["freeze"], training["steps"], training["seed"]) == ("last-1", 10, 0)
    assert len(training["trials"]) == 3
    assert training["validation_wql"] < training["validation_wql_zero_shot"]


def test_the_evaluation_is_that_of_the_exported_model(tuned: Any, waves: Path) -> None:
    evaluation = open_bundle(tuned[1]).manifest["evaluation"]
    rows = [line.split(",") for line in waves.read_text().splitlines()[1:]]
    targets = [[float(v) for name, _, v in rows if name == item] for item in ("north", "south")]
    result = backtest(
        Forecaster.load(tuned[1], threads=1), targets, horizon=HORIZON, windows=2,
        start="2024-01-01", freq="h", item_ids=["north", "south"], num_samples=20,
    )  # fmt: skip
    assert evaluation["model"] == "fine-tuned"
    assert evaluation["data_sets"]["waves"]["wql"] == pytest.approx(result.model.wql, rel=1e-6)
    assert evaluation["relative_wql"] == pytest.approx(result.relative_wql, rel=1e-6)
    assert evaluation["data_sets"]["waves"]["methods"]["zero-shot"]["wql"] > result.model.wql
    assert evaluation["settings"]["windows"] == 2


def test_a_checkpoint_is_fine_tuned_too_and_a_search_chooses(waves: Path, tmp_path: Path) -> None:
    done = run(
        "--model", GOLDEN / "lag_llama_tiny.ckpt", "--data", waves, "--output", tmp_path / "b",
        *OPTIONS, "--search",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    training = json.loads((tmp_path / "b" / "manifest.json").read_text())["training"]
    assert training["base"]["training"]["origin"] == "lag-llama"
    losses = [trial["wql"] for trial in training["trials"]]
    assert min(losses) == training["validation_wql"]
    assert len(losses) == done.stderr.count("validation WQL ") > 8
    assert open_bundle(tmp_path / "b").spec.context_length == training["context_length"]
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_weights_that_do_not_improve_are_not_kept(
    waves: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    done = run(
        "--model", tiny_bundle, "--data", waves, "--output", tmp_path / "b", *OPTIONS,
        "--learning-rate", 1e-12, "--steps", 1, "--freeze", "head", "--context", 1000,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    kept = open_bundle(tmp_path / "b")
    if kept.manifest["training"]["steps"] == 0:
        assert (
            "fine-tuning did not improve the validation windows' forecasts: the weights"
            in done.stderr
        )
        assert "kept as it was" in done.stdout
    before = load_bundle_model(open_bundle(tiny_bundle)).state_dict()
    for name, tensor in load_bundle_model(kept).state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--horizon": 80}, "each needs at least 168 values"),
        ({"--horizon": 4000}, "need 4031 positions, but this model has 2048"),
        ({"--context": 2048}, "need 2053 positions, but this model has 2048"),
        ({"--freeze": "tail"}, "freeze 'tail' is not known; one of: none, head, last-K"),
        ({"--freeze": "last-9"}, "the model has 2 blocks; choose 1 to 2"),
        ({"--data": "none.csv"}, "none.csv: cannot be read"),
        ({"--model": "none"}, "none: neither a model directory nor a shipped model"),
        ({"--model": "none.ckpt"}, "none.ckpt: cannot be read"),
        ({"--covariates": "when"}, "column 'when': '2024-01-01T00:00' is not a number"),
        ({"--target-column": "sales"}, "no column 'sales'"),
    ],
)
def test_what_cannot_be_done_is_said_before_training(
    waves: Path, tiny_bundle: Path, tmp_path: Path, changes: dict[str, Any], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(finetuning, "fit", never)
    options = {
        "--model": tiny_bundle, "--data": waves, "--horizon": 6, "--output": tmp_path / "b",
    } | changes  # fmt: skip
    done = run(*(part for pair in options.items() for part in pair))
    assert done.exit_code == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_measured_is_said_before_training(
    waves: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(finetuning, "fit", never)
    header, *rows = waves.read_text().splitlines()
    ends = [f"{row.rpartition(',')[0]}," if int(i) % 150 > 142 else row for i, row in
            enumerate(rows)]  # fmt: skip
    path = tmp_path / "ends.csv"
    path.write_text("\n".join([header, *ends]))
    done = run("--model", tiny_bundle, "--data", path, "--output", tmp_path / "out", *OPTIONS)
    assert done.exit_code == 1
    assert "no series has observed values both in its last 6 steps" in done.stderr
    assert not (tmp_path / "out").exists()


def test_covariates_that_the_model_does_not_have_are_refused(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "priced.csv"
    path.write_text("y,price\n" + "".join(f"{k % 7},{k % 3}\n" for k in range(100)))
    done = run(
        "--model", tiny_bundle, "--data", path, "--output", tmp_path / "b", *OPTIONS,
        "--covariates", "price", "--target-column", "y",
    )  # fmt: skip
    assert (done.exit_code, "1 covariates where the model has 0" in done.stderr) == (1, True)


@pytest.mark.parametrize(("option", "value"), [("--context", 8), ("--learning-rate", 1e-3)])
def test_a_search_chooses_context_and_learning_rate_itself(
    waves: Path, tiny_bundle: Path, option: str, value: float
) -> None:
    options = [each for each in OPTIONS if each != "--learning-rate"]
    done = run(
        "--model", tiny_bundle, "--data", waves, "--output", "b", *options, "--search", option,
        value,
    )  # fmt: skip
    assert (done.exit_code, f"leave out {option}" in done.stderr) == (2, True)


def test_an_existing_bundle_is_replaced_only_when_told(
    tuned: Any, waves: Path, tiny_bundle: Path
) -> None:
    before = (tuned[1] / "manifest.json").read_bytes()
    done = run("--model", tiny_bundle, "--data", waves, "--output", tuned[1], *OPTIONS)
    assert (done.exit_code, "add --overwrite" in done.stderr) == (1, True)
    assert (tuned[1] / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("moment", ["in training", "in the backtest"])
def test_an_interrupt_leaves_nothing_and_says_so(
    waves: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    if moment == "in training":
        monkeypatch.setattr(ForecastModule, "training_step", stop)
    else:
        monkeypatch.setattr(Forecaster, "predict_batch", stop)
    done = run("--model", tiny_bundle, "--data", waves, "--output", tmp_path / "b", *OPTIONS)
    assert done.exit_code == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"Error: stopped; nothing was written to {tmp_path / 'b'}"
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("blocked", ["torch", "onnx", "lightning"])
def test_missing_extras_are_named_with_the_command_that_adds_them(blocked: str) -> None:
    code = (
        f"import sys\nsys.modules[{blocked!r}] = None\nfrom laglite.cli import main\n"
        "main('finetune --model base --data x.csv --horizon 2 --output y'.split())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'laglite[train,export]'" in done.stderr
    assert "Traceback" not in done.stderr
