"""The YAML file of a training run: what is read, and what is refused by the name of its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from laglite.errors import InputError
from laglite_train.config import OptimiserConfig, RunConfig, read_config
from laglite_train.windows import SamplingConfig

BASE = Path(__file__).parents[2] / "configs" / "base.yaml"
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


def test_the_shipped_config_is_read() -> None:
    config = read_config(BASE)
    assert (config.output, config.data) == ("runs/base", ("data/train",))
    assert (config.model.num_layers, config.model.num_heads, config.model.head_dim) == (4, 6, 16)
    assert (config.model.head, config.model.scaling, config.model.history) == (
        "studentT",
        "iqr",
        "carry",
    )
    assert (config.model.lags[:3], config.model.max_lag) == ((0, 1, 2), 720)
    assert config.sampling == SamplingConfig(64, (64, 64, 64, 64, 64, 192), 0.3, 0.15, 0.15)
    assert config.optimiser == OptimiserConfig(2e-3, 0.01, 200, 1.0)
    assert config.run == RunConfig(20, 200, 64, 0, None, "32-true", 16)


def test_what_is_not_written_has_its_default(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(MINIMAL))
    config = read_config(tmp_path / "a.yaml")
    assert config.sampling == SamplingConfig()
    assert config.optimiser == OptimiserConfig()
    assert config.run == RunConfig()
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
    "key", ["epochs", "model.layers", "sampling.context", "optimiser.lr", "run.batchsize"]
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
        ("sampling.context_lengths", [64, 0], "sampling.context_lengths must be >= 1"),
        ("sampling.context_lengths", [8, 65], "129, beyond model.max_context_length 128"),
        ("sampling.horizon", 0, "sampling.horizon must be at least 1"),
        ("sampling.horizon", 65, "129, beyond model.max_context_length 128"),
        ("sampling.short_history", 1.5, "sampling.short_history is a share"),
        ("sampling.calendar_dropout", -0.1, "sampling.calendar_dropout is a share"),
        ("run.epochs", 0, "run.epochs must be at least 1"),
        ("run.steps_per_epoch", 0, "run.steps_per_epoch must be at least 1"),
        ("run.batch_size", -1, "run.batch_size must be at least 1"),
        ("run.validation_windows", 0, "run.validation_windows must be at least 1"),
        ("optimiser.learning_rate", 0.0, "optimiser.learning_rate must be above 0"),
        ("optimiser.learning_rate", float("nan"), "optimiser.learning_rate must be above 0"),
        ("model.head_dim", 3, "head_dim must be even"),
        ("model.num_heads", 0, "num_heads must be a whole number of at least 1"),
        ("model.context_length", 129, "max_context_length 128 is below context_length 129"),
        ("model.lags", [2, 1], "lags must be distinct whole numbers"),
        ("model.head", "beta", "head 'beta' is not known; one of: studentT"),
        ("model.rope_factor", 0.5, "rope_factor must be at least 1"),
    ],
)
def test_an_impossible_value_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"a\.yaml: .*{message}"):
        read_config(changed(tmp_path / "a.yaml", key, value))


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
    for name in ("none.yaml", "bytes.yaml", ""):
        with pytest.raises(InputError, match=rf"{name}: cannot be read"):
            read_config(tmp_path / name)
