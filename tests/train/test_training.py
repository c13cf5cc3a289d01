"""Training runs on a small corpus of waves: they learn, log, average, and guard their files."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import t as student_t
from torch import nn

from laglite.errors import InputError, LagliteError, LagliteWarning
from laglite.tokens import TimeAxis
from laglite_train.checkpoint import load_checkpoint
from laglite_train.corpus import Series, SeriesSet, read_corpus
from laglite_train.distributions import negative_log_likelihood
from laglite_train.draws import trainable
from laglite_train.lightning_module import ForecastModule
from laglite_train.model import LagLlama
from laglite_train.optimiser import rate_factor
from laglite_train.training import fit, train
from laglite_train.windows import Batch, TrainingBatches, ValidationBatches
from tests.train.small_runs import (
    AMPLITUDE,
    ROLLOUT,
    SPEC,
    STEPS,
    contents,
    logged,
    small_config,
)


def start(config: Any) -> Path:
    return train(config, resume=False, progress=False)


def validation_batches(data: Path) -> list[Batch]:
    config = small_config(data, data)
    batches = ValidationBatches(
        trainable(read_corpus([data], shortest=8), 6), SPEC, config.sampling, batch_size=16,
        per_set=4,
    )  # fmt: skip
    return [batches[index] for index in range(len(batches))]


def set_losses(model: LagLlama, batches: list[Batch]) -> dict[int, float]:
    """Mean loss in scaled units over the validated values of each set, by its number."""
    losses: dict[int, list[float]] = {}
    for batch in batches:
        with torch.no_grad():
            found = negative_log_likelihood(
                "studentT", model(batch.tokens), batch.values, batch.loc, batch.scale
            )
        found = found - batch.scale.log()
        for row, weights, source in zip(found, batch.weights, batch.sources.tolist(), strict=True):
            losses.setdefault(source, []).extend(row[weights > 0].tolist())
    return {source: float(np.mean(values)) for source, values in losses.items()}


@pytest.fixture(scope="module")
def taught(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run long enough to learn the waves."""
    output = tmp_path_factory.mktemp("taught")
    start(small_config(waves, output, epochs=6, steps_per_epoch=25))
    return output


def test_the_loss_falls_below_what_constants_and_the_last_value_allow(
    waves: Path, taught: Path
) -> None:
    """Student-t distributions fitted by scipy to the very windows that are validated on."""
    losses = list(logged(taught, "val_loss").values())
    assert len(losses) == 6
    constant, last_value = [], []
    for batch in validation_batches(waves):
        scaled = ((batch.values - batch.loc) / batch.scale).numpy()
        known = batch.weights.numpy() > 0
        constant.extend(scaled[known])
        last_value.extend((scaled - batch.tokens[..., 0].numpy())[known])
    baselines = [
        -float(student_t.logpdf(values, *student_t.fit(values)).mean())
        for values in (np.array(constant), np.array(last_value))
    ]
    assert min(losses) < min(baselines) - 0.5
    # and below what a normal distribution of the sine's own deviation would give in data units
    assert min(losses) < math.log(AMPLITUDE / math.sqrt(2) * math.sqrt(2 * math.pi * math.e)) - 1.5


def test_the_best_checkpoint_has_the_lowest_loss_and_is_the_model_that_was_validated(
    waves: Path, taught: Path
) -> None:
    """Losses are computed again from the file, without Lightning."""
    losses = list(logged(taught, "val_loss").values())
    best = contents(taught / "best.ckpt")
    assert best["epoch"] == losses.index(min(losses))
    assert contents(taught / "last.ckpt")["epoch"] == 5
    for name, wanted in (("best.ckpt", min(losses)), ("last.ckpt", losses[-1])):
        found = set_losses(load_checkpoint(taught / name).model, validation_batches(waves))
        assert np.mean(list(found.values())) == pytest.approx(wanted, rel=1e-4)
    by_set = [list(logged(taught, f"val_loss/{name}").values())[-1] for name in ("swell", "waves")]
    assert list(found.values()) == pytest.approx(by_set, rel=1e-4)


def test_all_logs_of_a_run_lie_in_one_folder(taught: Path) -> None:
    (version,) = (taught / "logs").iterdir()
    assert version.name == "version_0"
    assert (version / "metrics.csv").is_file()
    assert len(list(version.glob("events.out.tfevents.*"))) == 1
    rates = logged(taught, "windows_per_second")
    assert len(rates) == 6
    assert min(rates.values()) > 0
    assert len(logged(taught, "train_loss")) >= 6
    assert sorted(path.name for path in taught.iterdir()) == ["best.ckpt", "last.ckpt", "logs"]


def test_a_checkpoint_holds_plain_values_and_loads_as_a_model(taught: Path) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        assert contents(taught / name)["hyper_parameters"]["spec"] == SPEC.to_dict()
        checkpoint = load_checkpoint(taught / name)
        assert (checkpoint.origin, checkpoint.model.spec) == ("laglite", SPEC)
        assert checkpoint.training["run"]["steps_per_epoch"] == 25
        assert [data["name"] for data in checkpoint.training["data"]] == ["swell", "waves"]
        state = contents(taught / name)["state_dict"]
        for key, tensor in checkpoint.model.state_dict().items():
            torch.testing.assert_close(tensor, state[f"model.{key}"], rtol=0, atol=0)


@pytest.mark.parametrize("average", [0.8, 0.0])
def test_checkpoints_hold_the_exponential_average_of_weights_and_rates_take_their_course(
    waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: float
) -> None:
    seen: list[torch.Tensor] = []
    rates: list[list[float]] = []

    def record(self: ForecastModule, *_: Any) -> None:
        seen.append(self.model.transformer["wte"].weight.detach().clone())

    def record_rates(self: ForecastModule, *_: Any) -> None:
        rates.append([group["lr"] for group in self.optimizers().param_groups])

    monkeypatch.setattr(ForecastModule, "on_train_batch_end", record)
    monkeypatch.setattr(ForecastModule, "on_before_optimizer_step", record_rates)
    config = small_config(waves, tmp_path, average=average, name="muon")
    start(config)
    expected = seen[0]
    for weight in seen[1:]:
        expected = average * expected + (1 - average) * weight
    state = contents(tmp_path / "last.ckpt")
    name = "model.transformer.wte.weight"
    torch.testing.assert_close(state["state_dict"][name], expected)
    if average:
        assert torch.equal(state["current_model_state"][name], seen[-1])
    factor = rate_factor(config.optimiser, 2 * STEPS)
    full = [config.optimiser.matrix_learning_rate, *[config.optimiser.learning_rate] * 2]
    assert rates == [[factor(step) * rate for rate in full] for step in range(2 * STEPS)]


def test_training_ends_after_its_patience_and_the_best_epoch_is_kept(
    waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 2.0, 4.0, 5.0, 1.0])

    def scripted(self: ForecastModule) -> None:
        self.log("val_loss", torch.tensor(next(losses)))

    monkeypatch.setattr(ForecastModule, "on_validation_epoch_end", scripted)
    start(small_config(waves, tmp_path, epochs=5, steps_per_epoch=1, patience=2))
    assert list(logged(tmp_path, "val_loss").values()) == [3, 2, 4, 5]
    assert contents(tmp_path / "best.ckpt")["epoch"] == 1
    assert contents(tmp_path / "last.ckpt")["epoch"] == 3


def test_bfloat16_on_a_cpu_learns_too(waves: Path, tmp_path: Path) -> None:
    start(small_config(waves, tmp_path, epochs=3, steps_per_epoch=15, precision="bf16-mixed"))
    losses = list(logged(tmp_path, "val_loss").values())
    assert losses[-1] < losses[0] - 0.1
    state = contents(tmp_path / "last.ckpt")["state_dict"]
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_bfloat16_keeps_the_digits_of_values_in_rollouts_too(waves: Path, tmp_path: Path) -> None:
    """The loss of sample paths is nearly that of float32, whatever the centre is made of."""
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        config = small_config(waves, tmp_path / precision, precision=precision, epochs=1)
        model = dataclasses.replace(config.model, residual=True, regression=True)
        rollout = dataclasses.replace(ROLLOUT, begin=0.0)
        start(dataclasses.replace(config, model=model, rollout=rollout))
        losses[precision] = list(logged(tmp_path / precision, "train_rollout").values())
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], abs=0.02)


def bad_corpus() -> list[SeriesSet]:
    """A good set, and one with an infinite value that the size limit would have kept out."""
    values = np.sin(np.arange(80)).astype(np.float32)
    spoilt = np.where(np.arange(80) % 4 == 1, np.inf, values).astype(np.float32)
    return [
        SeriesSet(name, [Series("a", TimeAxis(), one)])
        for name, one in (("good", values), ("bad", spoilt))
    ]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_data_sets(tmp_path: Path) -> None:
    config = small_config(tmp_path, tmp_path / "run")
    config = dataclasses.replace(
        config,
        sampling=dataclasses.replace(config.sampling, largest_value=math.inf, weighting="equal"),
    )
    with pytest.raises(LagliteError, match=r"not finite at step 0, in windows of: bad; look at"):
        fit(LagLlama(SPEC), config, bad_corpus(), resume_from=None, progress=False)
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_weights_that_became_useless_are_not_saved(
    waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last gradient of an epoch is spoilt: its loss was finite, the next is not computed."""

    def spoil(self: ForecastModule, *_: Any) -> None:
        if self.global_step == 2 * STEPS - 1:
            self.model.transformer["wte"].weight.grad.fill_(math.nan)

    monkeypatch.setattr(ForecastModule, "on_after_backward", spoil)
    with pytest.raises(LagliteError, match="validation loss is not finite after step 10, for: sw"):
        start(small_config(waves, tmp_path, average=0.0))
    assert contents(tmp_path / "last.ckpt")["global_step"] == STEPS


def test_a_run_is_not_overwritten_without_resume(waves: Path, taught: Path) -> None:
    before = (taught / "last.ckpt").read_bytes()
    with pytest.raises(InputError, match=r"last\.ckpt exists: add --resume"):
        start(small_config(waves, taught))
    assert (taught / "last.ckpt").read_bytes() == before


def test_there_must_be_a_run_to_resume(waves: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"last\.ckpt: there is no run to resume"):
        train(small_config(waves, tmp_path / "none"), resume=True, progress=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accelerator": "gpu"}, "run.accelerator is gpu, but torch sees none"),
        ({"precision": "16-mixed"}, "run.precision 16-mixed needs a GPU, and there is none"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_what_the_machine_does_not_have_is_refused_before_anything_is_written(
    waves: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        start(small_config(waves, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_data_that_cannot_be_used_stop_a_run_before_it_writes(waves: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such file or folder"):
        start(small_config(tmp_path / "none", tmp_path / "run"))
    config = small_config(waves, tmp_path / "run")
    config = dataclasses.replace(
        config, sampling=dataclasses.replace(config.sampling, largest_value=1e-6)
    )
    with pytest.raises(InputError, match="hardly any window can be trained on"):
        start(config)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_named(waves: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"run: cannot be made \(Not a directory\)"):
        start(small_config(waves, tmp_path / "file" / "run"))


def test_an_error_in_a_worker_has_its_own_words_only(
    waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch, which the process itself tries before it starts, is fine."""
    get = TrainingBatches.__getitem__

    def failing(self: TrainingBatches, index: int) -> Batch:
        if self.steps[index] == 3:
            raise InputError("hardly any window can be trained on")
        return get(self, index)

    monkeypatch.setattr(TrainingBatches, "__getitem__", failing)
    with pytest.raises(InputError) as caught:
        start(small_config(waves, tmp_path, workers=1))
    assert str(caught.value) == "hardly any window can be trained on"


def test_sets_with_nothing_before_their_held_out_end_are_named_and_skipped(
    waves: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late.csv"
    rows = "".join(f"2024-01-{day:02d},{'' if day < 20 else 3.0}\n" for day in range(1, 21))
    late.write_text(f"ds,y\n{rows}")
    config = dataclasses.replace(
        small_config(waves, tmp_path / "run"), data=(str(waves), str(late))
    )
    with pytest.warns(LagliteWarning, match="data set 'late' is skipped: nothing is observed"):
        start(config)
    assert "val_loss/late" not in (tmp_path / "run/logs/version_0/metrics.csv").read_text()


def test_a_compiled_network_trains_to_the_same_weights_under_the_same_names(
    waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and differentiated by torch.compile, run without a C++ compiler: that takes long."""
    compiled: list[nn.Module] = []

    def trace(self: nn.Module, *arguments: Any, **options: Any) -> None:
        compiled.append(self)
        compile_module(self, *arguments, backend="aot_eager", **options)

    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", trace)
    folders = []
    for choice in (False, True):
        folders.append(tmp_path / str(choice))
        config = small_config(waves, folders[-1], epochs=1, compile=choice)
        start(dataclasses.replace(config, model=dataclasses.replace(SPEC, num_layers=1)))
    assert compiled
    plain, fused = (load_checkpoint(folder / "last.ckpt").model for folder in folders)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(fused.state_dict()[name], tensor, rtol=0, atol=1e-4)
