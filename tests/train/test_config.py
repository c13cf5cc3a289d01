"""The YAML file of a training run: what is read, and what is refused by the name of its key."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from laglite.errors import InputError
from laglite_train.config import RunConfig, read_config
from laglite_train.draws import SamplingConfig
from laglite_train.optimiser import OptimiserConfig
from laglite_train.rollout import RolloutConfig
from laglite_train.synthetic import SyntheticConfig
from laglite_train.window_augmentation import AugmentationConfig

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
MINIMAL: dict[str, Any] = {
    "output": "runs/a",
    "data": ["data"],
    "model": {
        "num_layers": 2,
        "num_heads": 2,
        "head_dim": 4,
        "mlp_width": 8,
        "lags": [0, 1, 2, 5],
        "max_context_length": 128,
    },
}


def changed(path: Path, key: str, value: Any) -> Path:
    """Write the minimal config with one key, given by its path, set to `value`."""
    values = yaml.safe_load(yaml.safe_dump(MINIMAL))
    *parents, last = key.split(".")
    section = values
    for name in parents:
        section = section.setdefault(name, {})
    section[last] = value
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_configs_are_read_as_they_are_written(path: Path) -> None:
    config, written = read_config(path), yaml.safe_load(path.read_text())
    assert config.output == written.pop("output") == f"runs/{path.stem}"
    assert config.data == tuple(written.pop("data"))
    assert config.init == written.pop("init", None)
    assert {"model", "sampling", "optimiser", "run"} <= written.keys()
    for section, values in written.items():
        for name, value in values.items():
            found = getattr(getattr(config, section), name)
            assert found == (tuple(value) if isinstance(value, list) else value), name
    assert (config.model.history, config.model.calendar_optional) == ("carry", True)


def test_what_is_not_written_has_its_default(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(MINIMAL))
    config = read_config(tmp_path / "a.yaml")
    assert config.sampling == SamplingConfig()
    assert config.optimiser == OptimiserConfig()
    assert config.run == RunConfig()
    assert config.synthetic == SyntheticConfig()
    assert config.augmentation == AugmentationConfig()
    assert config.rollout == RolloutConfig()
    assert config.model.lags == (0, 1, 2, 5)


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [("optimiser.gradient_clip", 2, 2.0), ("run.threads", None, None), ("run.threads", 2, 2)],
)
def test_whole_numbers_serve_as_floats_and_null_as_none(
    tmp_path: Path, key: str, value: Any, read: Any
) -> None:
    section, name = key.split(".")
    found = getattr(getattr(read_config(changed(tmp_path / "a.yaml", key, value)), section), name)
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    "key",
    [
        "epochs",
        "model.layers",
        "sampling.context",
        "synthetic.sine",
        "augmentation.mixup",
        "optimiser.lr",
        "run.batchsize",
    ],
)
def test_an_unknown_key_is_named_by_its_path(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=rf"a\.yaml: unknown key {key}; known: "):
        read_config(changed(tmp_path / "a.yaml", key, 1))


@pytest.mark.parametrize("key", ["model", "data", "output", "model.num_layers", "model.lags"])
def test_a_missing_key_is_named_by_its_path(tmp_path: Path, key: str) -> None:
    values = yaml.safe_load(yaml.safe_dump(MINIMAL))
    *parents, last = key.split(".")
    del (values[parents[0]] if parents else values)[last]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=rf"a\.yaml: key {key} is missing"):
        read_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.num_layers", "4", "model.num_layers must be of type int, not '4'"),
        ("model.num_layers", 4.0, "model.num_layers must be of type int, not 4.0"),
        ("model.calendar", 1, "model.calendar must be of type bool, not 1"),
        ("model.lags", 3, "model.lags must be a list, not 3"),
        ("model.lags", [0, "week"], r"model.lags\[1\] must be of type int, not 'week'"),
        ("data", "folder", "data must be a list, not 'folder'"),
        ("data", ["folder", 5], r"data\[1\] must be of type str, not 5"),
        ("output", None, "output must be of type str, not None"),
        ("run.epochs", True, "run.epochs must be of type int, not True"),
        ("run.threads", "all", "run.threads must be of type int, not 'all'"),
        ("optimiser.learning_rate", "2e-3", "optimiser.learning_rate must be of type float"),
        ("sampling.context_lengths", [8.5], r"sampling.context_lengths\[0\] must be of type int"),
        ("model", 4, "model must be a mapping of keys, not 4"),
        ("run", None, "run must be a mapping of keys, not None"),
        ("run.epochs", {"count": 3}, "run.epochs must be of type int"),
        ("sampling", [64], r"sampling must be a mapping of keys, not \[64\]"),
        ("sampling.weighting", 1, "sampling.weighting must be of type str, not 1"),
        ("sampling.factors", {"a": "x"}, "sampling.factors.a must be of type float"),
        ("sampling.frequency_shares", ["h"], "sampling.frequency_shares must be a mapping"),
        ("sampling.frequency_shares", {"h": "x"}, "sampling.frequency_shares.h must be of type"),
        ("synthetic.demand", "much", "synthetic.demand must be of type float, not 'much'"),
        ("augmentation.most_partners", 2.5, "augmentation.most_partners must be of type int"),
        ("run.compile", "yes", "run.compile must be of type bool, not 'yes'"),
        ("run.patience", 1.5, "run.patience must be of type int, not 1.5"),
    ],
)
def test_a_value_of_the_wrong_type_or_nesting_is_named_by_its_path(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    with pytest.raises(InputError, match=rf"a\.yaml: {message}"):
        read_config(changed(tmp_path / "a.yaml", key, value))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data", [], "data must list at least one"),
        ("sampling.context_lengths", [], "sampling.context_lengths must hold at least one"),
        ("sampling.context_lengths", [64, 0], "sampling.context_lengths must hold .* at least 1"),
        ("sampling.context_lengths", [8, 65], "129, beyond model.max_context_length 128"),
        ("sampling.horizon", 0, "sampling.horizon must be at least 1"),
        ("sampling.horizon", 65, "129, beyond model.max_context_length 128"),
        ("sampling.short_history", 1.5, "sampling.short_history is a share"),
        ("sampling.calendar_dropout", -0.1, "sampling.calendar_dropout is a share"),
        ("sampling.weighting", "size", "sampling.weighting 'size' is not one of temperature, "),
        ("sampling.temperature", -1, "sampling.temperature must be at least 0"),
        ("sampling.temperature", float("inf"), "sampling.temperature must be at least 0"),
        ("sampling.coarser", 1.1, "sampling.coarser is a share"),
        ("sampling.synthetic", float("nan"), "sampling.synthetic is a share"),
        ("sampling.largest_value", 0, "sampling.largest_value must be above 0"),
        ("sampling.factors", {"a": 0}, "sampling.factors.a must be above 0, and finite"),
        ("sampling.factors", {"a": math.inf}, "sampling.factors.a must be above 0, and finite"),
        ("sampling.frequency_shares", {"h": 0.7, "D": 0.4}, "sampling.frequency_shares must be"),
        ("sampling.frequency_shares", {"hour": 0.7}, "sampling.frequency_shares.hour: "),
        ("sampling.frequency_shares", {"MS": 0.1, "ME": 0.1}, "ME and MS are one frequency"),
        ("sampling.largest_value", math.inf, "sampling.largest_value must be above 0, and finite"),
        ("optimiser.gradient_clip", math.inf, "optimiser.gradient_clip must be above 0, and"),
        ("synthetic.missing", 2, "synthetic.missing must be a share"),
        ("synthetic.demand", -1, "synthetic.demand must be a weight of at least 0"),
        ("augmentation.frequency", 2, "augmentation.frequency is a share"),
        ("augmentation.mask_rate", -1, "augmentation.mask_rate is a share"),
        ("augmentation.mix_rate", 1.5, "augmentation.mix_rate is a share"),
        ("augmentation.series_mix", 1.5, "augmentation.series_mix is a share"),
        ("augmentation.sign_flip", 1.5, "augmentation.sign_flip is a share"),
        ("augmentation.most_partners", 0, "augmentation.most_partners must be at least 1"),
        ("augmentation.jitter", -0.1, "augmentation.jitter must be at least 0"),
        ("augmentation.magnitude", -0.1, "augmentation.magnitude must be at least 0"),
        ("rollout.weight", -1, "rollout.weight must be at least 0"),
        ("rollout.begin", 2, "rollout.begin is a share"),
        ("rollout.steps", 0, "rollout.steps must be at least 1"),
        ("rollout.paths", 1, "rollout.paths must be at least 2"),
        ("rollout.windows", 0, "rollout.windows must be at least 1"),
        ("optimiser.name", "sgd", "optimiser.name 'sgd' is not one of adamw, muon"),
        ("optimiser.matrix_learning_rate", 1, "optimiser.matrix_learning_rate must be above 0"),
        ("optimiser.warmup_steps", -1, "optimiser.warmup_steps must be at least 0"),
        ("optimiser.weight_decay", -1, "optimiser.weight_decay must be at least 0"),
        ("optimiser.decay_share", 0, "optimiser.decay_share must be above 0"),
        ("optimiser.final_share", 2, "optimiser.final_share is a share"),
        ("optimiser.average", 1, "optimiser.average must be at least 0 and below 1"),
        ("optimiser.gradient_clip", 0, "optimiser.gradient_clip must be above 0"),
        ("run.epochs", 0, "run.epochs must be at least 1"),
        ("run.steps_per_epoch", 0, "run.steps_per_epoch must be at least 1"),
        ("run.batch_size", -1, "run.batch_size must be at least 1"),
        ("run.validation_windows", 0, "run.validation_windows must be at least 1"),
        ("run.devices", 0, "run.devices must be at least 1"),
        ("run.nodes", 0, "run.nodes must be at least 1"),
        ("run.devices", 3, "run.batch_size 64 does not divide among run.devices 3 x run.nodes 1"),
        ("run.workers", -1, "run.workers must be at least 0"),
        ("run.seed", -1, "run.seed must be at least 0"),
        ("run.seed", 2**32, r"run.seed must be below 2\*\*32"),
        ("run.threads", 0, "run.threads must be at least 1, or left out"),
        ("run.patience", 0, "run.patience must be at least 1, or left out"),
        ("run.precision", "64", "run.precision '64' is not one of 32-true, bf16-mixed, 16-mixed"),
        ("run.accelerator", "tpu", "run.accelerator 'tpu' is not one of auto, cpu, gpu"),
        ("output", "", "output must name a folder"),
        ("optimiser.learning_rate", 0.0, "optimiser.learning_rate must be above 0"),
        ("optimiser.learning_rate", float("nan"), "optimiser.learning_rate must be above 0"),
        ("model.head_dim", 3, "head_dim must be even"),
        ("model.num_heads", 0, "num_heads must be a whole number of at least 1"),
        ("model.context_length", 129, "max_context_length 128 is below context_length 129"),
        ("model.lags", [2, 1], "lags must be distinct whole numbers"),
        ("model.head", "beta", "head 'beta' is not known; one of: studentT"),
        ("model.scaling", "max", "scaling 'max' is not known; one of: robust"),
        ("model.num_covariates", -1, "num_covariates must be a whole number of at least 0"),
        ("model.rope_factor", 0.5, "rope_factor must be at least 1"),
    ],
)
def test_an_impossible_value_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"a\.yaml: .*{message}"):
        read_config(changed(tmp_path / "a.yaml", key, value))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (("sampling.coarser", 0.1), ("model.num_covariates", 1),
         "sampling.coarser must be 0 where model.num_covariates is not"),
        (("rollout.weight", 0.1), ("sampling.horizon", 12),
         "rollout.steps 24 is beyond sampling.horizon 12"),
        (("rollout.weight", 0.1), ("run.batch_size", 8),
         "rollout.windows 16 is beyond run.batch_size 8"),
        (("rollout.weight", 0.1), ("model.head", "spline"),
         "rollout.weight: model.head 'spline' has no draws with gradients"),
        (("rollout.weight", 0.1), ("model.lags", [1, 2]),
         "rollout.weight: scores are counted from the last value, but model.lags begin with 1"),
        (("augmentation.jitter", 0.1), ("model.head", "neg_bin"),
         "augmentation: sign_flip and jitter make negative values"),
        (("run.precision", "16-mixed"), ("run.accelerator", "cpu"),
         "run.precision 16-mixed needs a GPU"),
    ],
)  # fmt: skip
def test_settings_that_exclude_each_other_are_both_named(
    tmp_path: Path, first: tuple[str, Any], second: tuple[str, Any], message: str
) -> None:
    values = yaml.safe_load(changed(tmp_path / "a.yaml", *first).read_text())
    section, name = second[0].split(".")
    values.setdefault(section, {})[name] = second[1]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=rf"a\.yaml: {message}"):
        read_config(tmp_path / "a.yaml")


def test_a_short_horizon_and_small_batches_need_no_rollout_keys(tmp_path: Path) -> None:
    values = {**MINIMAL, "sampling": {"horizon": 4}, "run": {"batch_size": 2}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values))
    assert read_config(tmp_path / "a.yaml").rollout.weight == 0


@pytest.mark.parametrize("text", ["model: [\n", "a: b: c\n", "x: !!python/name:os.system\n"])
def test_a_file_that_is_not_plain_yaml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=r"a\.yaml: not valid YAML"):
        read_config(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ["", "- model\n", "just words\n"])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=r"a\.yaml: a training config is a mapping"):
        read_config(tmp_path / "a.yaml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xff")
    reasons = {
        "none.yaml": "No such file or directory",
        "bytes.yaml": "not UTF-8 text",
        "": "Is a directory",
    }
    for name, reason in reasons.items():
        with pytest.raises(InputError, match=rf"{name}: cannot be read \({reason}\)$"):
            read_config(tmp_path / name)
