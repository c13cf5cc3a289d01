"""`laglite train`: what it prints, and what an interrupt leaves behind."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

from laglite.cli import main
from laglite_train.lightning_module import ForecastModule
from tests.train.small_runs import (
    SPEC,
    STEPS,
    contents,
    small_config,
    stopping_after,
    write_config,
)

Command = Callable[..., Any]
# A test run in the background may ignore interrupts, and its children would too.
HEEDING_INTERRUPTS = """
import signal
from laglite.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""

# An iterator that is still there when the program ends keeps its worker.
AMID_AN_EPOCH = """
import sys
from pathlib import Path
from laglite_train.config import read_config
from laglite_train.corpus import read_corpus
from laglite_train.lightning_module import WindowData
config = read_config(Path(sys.argv[1]))
corpus = read_corpus([Path(path) for path in config.data], shortest=8)
batches = iter(WindowData(corpus, config.model, config).train_dataloader())
print(next(batches).tokens.shape[0])
"""


@pytest.fixture
def run_command(waves: Path, tmp_path: Path) -> Command:
    """`laglite train` of a small config, into `run` under tmp_path."""
    config = write_config(
        small_config(tmp_path / "nowhere", tmp_path / "other"), tmp_path / "a.yaml"
    )
    options = ["train", str(config), "--data", str(waves), "--output", str(tmp_path / "run")]
    return lambda *more: CliRunner().invoke(main, [*options, *more])


@pytest.fixture
def keep_interrupt_handler() -> Any:
    """Lightning ignores further interrupts once it has seen one."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def test_the_command_prints_the_best_checkpoint(run_command: Command, tmp_path: Path) -> None:
    result = run_command()
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'run' / 'best.ckpt'}\n"
    assert f"training {SPEC.num_parameters:,} weights for 10 steps" in result.stderr


def test_options_complete_a_config_without_data_and_output(waves: Path, tmp_path: Path) -> None:
    config = write_config(small_config(waves, tmp_path), tmp_path / "a.yaml")
    values = yaml.safe_load(config.read_text())
    del values["data"], values["output"]
    config.write_text(yaml.safe_dump(values))
    options = ["train", str(config), "--output", str(tmp_path / "run")]
    result = CliRunner().invoke(main, options)
    assert (result.exit_code, result.stderr) == (1, f"Error: {config}: key data is missing\n")
    result = CliRunner().invoke(main, [*options, "--data", str(waves)])
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "run" / "best.ckpt").is_file()


@pytest.mark.usefixtures("keep_interrupt_handler")
def test_an_interrupted_command_says_how_to_go_on_and_does(
    run_command: Command, tmp_path: Path
) -> None:
    with stopping_after(STEPS + 2, KeyboardInterrupt()):
        stopped = run_command()
    assert stopped.exit_code == 1
    last = tmp_path / "run" / "last.ckpt"
    assert f"Error: stopped; {last} holds the run up to its last whole epoch" in stopped.stderr
    assert "--resume" in stopped.stderr
    assert run_command("--resume").exit_code == 0
    assert contents(last)["global_step"] == 2 * STEPS


@pytest.mark.usefixtures("keep_interrupt_handler")
def test_an_interrupt_in_the_first_epoch_says_that_nothing_is_saved(
    run_command: Command, tmp_path: Path
) -> None:
    with stopping_after(2, KeyboardInterrupt()):
        stopped = run_command()
    assert stopped.exit_code == 1
    assert "stopped before the end of the first epoch: nothing is saved yet" in stopped.stderr
    assert not (tmp_path / "run" / "last.ckpt").exists()
    assert run_command().exit_code == 0


def test_a_loss_that_is_not_finite_is_one_message(
    run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = ForecastModule._losses

    def spoilt(self: ForecastModule, batch: Any, arguments: Any) -> torch.Tensor:
        spoil = (batch.sources == self.names.index("waves")) & self.trainer.training
        return losses(self, batch, arguments) * torch.where(spoil, float("nan"), 1.0)[:, None]

    monkeypatch.setattr(ForecastModule, "_losses", spoilt)
    result = run_command()
    assert result.exit_code == 1
    assert "Error: the loss is not finite at step 0, in windows of: waves; look" in result.stderr
    assert "Traceback" not in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_warnings_of_skipped_sets_are_one_line_each(waves: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.csv"
    short.write_text("ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n")
    config = write_config(small_config(waves, tmp_path / "run"), tmp_path / "a.yaml")
    options = ["train", str(config), "--data", str(waves), "--data", str(short)]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0
    (line,) = [line for line in result.stderr.splitlines() if "is skipped" in line]
    assert line.startswith(f"Warning: {short}: data set 'short' is skipped")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--resume"], "last.ckpt: there is no run to resume"),
    ],
)
def test_what_cannot_be_trained_is_one_message(
    tmp_path: Path, waves: Path, options: list[str], message: str
) -> None:
    config = write_config(small_config(waves, tmp_path / "run"), tmp_path / "a.yaml")
    result = CliRunner().invoke(main, ["train", str(config), *options])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert message in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("devices", [1, 2], ids=["one process", "two processes"])
def test_a_real_signal_to_all_processes_keeps_the_last_checkpoint(
    waves: Path, tmp_path: Path, devices: int, number: signal.Signals
) -> None:
    """It reaches all processes of a run. The bar is on stderr, stdout stays empty."""
    # A worker that has just been forked heeds no SIGTERM of ours yet: torch would tell of its end.
    workers = 1 if number == signal.SIGINT else 0
    settings = small_config(
        waves, tmp_path / "run", epochs=10_000, workers=workers, devices=devices, accelerator="cpu"
    )
    config = write_config(settings, tmp_path / "a.yaml")
    (tmp_path / "command.py").write_text(HEEDING_INTERRUPTS)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "command.py"), "train", str(config)],
        stdout=subprocess.PIPE, stderr=theirs, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "200"},
    )  # fmt: skip
    os.close(theirs)
    written = b""
    deadline = time.monotonic() + 300
    os.set_blocking(ours, False)
    sent = False
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
        written += read_terminal(ours)
        if not sent and (tmp_path / "run" / "last.ckpt").exists():
            os.killpg(process.pid, number)
            sent = True
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("the command did not end after a signal")
    written += read_terminal(ours)
    os.close(ours)
    stdout, _ = process.communicate(timeout=60)
    text = written.decode()
    assert process.returncode == 1, text
    assert stdout == b""
    assert text.count("holds the run up to its last whole epoch: go on with --resume") == 1
    assert "Epoch 0" in text
    assert "Traceback" not in text, text
    assert contents(tmp_path / "run" / "last.ckpt")["global_step"] % STEPS == 0
    while in_group(process.pid):  # workers look every five seconds whether anyone needs them
        assert time.monotonic() < deadline, "a process of the run is left"
        time.sleep(0.2)


def test_a_program_that_ends_amid_an_epoch_ends_its_data_workers(
    waves: Path, tmp_path: Path
) -> None:
    settings = small_config(waves, tmp_path / "run", workers=1)
    config = write_config(settings, tmp_path / "a.yaml")
    done = subprocess.run(
        [sys.executable, "-c", AMID_AN_EPOCH, str(config)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "16\n"), done.stderr


def in_group(group: int) -> bool:
    """Whether a process of the group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def read_terminal(handle: int) -> bytes:
    """What there is to read now; nothing where the other side is closed."""
    try:
        return os.read(handle, 1 << 20)
    except OSError:
        return b""
