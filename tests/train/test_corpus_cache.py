"""The corpus cache: what it holds equals the file, in little memory, whoever builds it when."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.tokens import TimeAxis
from laglite_train import corpus_cache, corpus_source
from laglite_train.corpus import SeriesSet, read_corpus

LISTS = pa.list_(pa.float32())
FLOATS = st.floats(width=32, allow_infinity=False)
SERIES = st.lists(st.lists(FLOATS, max_size=12), min_size=1, max_size=8)


def write(
    path: Path,
    targets: list[Any],
    covariates: list[Any] | None = None,
    freqs: list[str] | None = None,
    row_group_size: int | None = None,
) -> Path:
    columns = {
        "item_id": [f"séries {row}" for row in range(len(targets))],
        "start": ["2024-01-31"] * len(targets),
        "freq": freqs or ["D"] * len(targets),
        "target": pa.array(targets, LISTS),
    }
    if covariates is not None:
        columns["covariates"] = pa.array(covariates, pa.list_(LISTS))
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def read(path: Path, cache: Path, shortest: int = 1) -> SeriesSet:
    (group,) = read_corpus([path], shortest=shortest, cache=cache, note=lambda _: None)
    return group


def stored(cache: Path, ending: str) -> Path:
    (path,) = cache.glob(f"*.{ending}")
    return path


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(SERIES, st.integers(1, 5), st.integers(1, 20), st.data())
def test_series_equal_a_plain_read_of_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    targets: list[list[float]],
    group_size: int,
    batch_values: int,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("random")
    counts = st.integers(0, 2)
    covariates = [
        [data.draw(st.lists(FLOATS, min_size=len(one), max_size=len(one)))
         for _ in range(data.draw(counts))]
        for one in [*targets, [1.0]]
    ]  # fmt: skip
    path = write(folder / "a.parquet", [*targets, [1.0]], covariates, row_group_size=group_size)
    monkeypatch.setattr(corpus_source, "BATCH_VALUES", batch_values)
    group = read(path, folder / "cache", shortest=0)
    rows = [row for row in pq.read_table(path).to_pylist() if not np.isnan(row["target"]).all()]
    assert [one.item_id for one in group.series] == [row["item_id"] for row in rows]
    for one, row in zip(group.series, rows, strict=True):
        assert one.axis == TimeAxis.of("2024-01-31", "D")
        np.testing.assert_array_equal(one.values, np.array(row["target"], np.float32))
        if row["covariates"]:
            assert one.covariates is not None
            np.testing.assert_array_equal(one.covariates, np.array(row["covariates"], np.float32))
        else:
            assert one.covariates is None
    assert group.lengths.tolist() == [len(row["target"]) for row in rows]
    known = [np.flatnonzero(~np.isnan(row["target"]))[0] for row in rows]
    assert group.first_observed.tolist() == known


def test_stored_and_listed_sets_tell_the_same_of_their_series(tmp_path: Path) -> None:
    nan = float("nan")
    targets = [[nan, 1.0], [2.0], [nan, nan, 3.0, nan]]
    group = read(write(tmp_path / "a.parquet", targets, freqs=["D", "MS", "D"]), tmp_path)
    listed = SeriesSet("a", list(group.series))
    for one in (group, listed):
        assert one.points == 7
        assert one.lengths.tolist() == [2, 1, 4]
        assert one.freqs.tolist() == ["D", "MS", "D"]
        assert one.first_observed.tolist() == [1, 0, 2]
        days, months = one.by_frequency()
        assert (days.name, days.lengths.tolist()) == ("a/D", [2, 4])
        assert (months.name, months.lengths.tolist()) == ("a/MS", [1])
        assert days.by_frequency() == [days]


def test_slices_and_negative_places_are_those_of_a_list(tmp_path: Path) -> None:
    group = read(write(tmp_path / "a.parquet", [[float(k)] for k in range(7)]), tmp_path)
    for series in (group.series, group.subset(np.arange(7) % 2 == 0).series):
        values = [one.values[0] for one in series]
        assert [one.values[0] for one in series[1:][::2]] == values[1::2]
        assert series[-1].values[0] == values[-1]
        with pytest.raises(IndexError):
            series[len(values)]


def test_values_are_views_of_the_file_that_cannot_be_changed(tmp_path: Path) -> None:
    values = read(write(tmp_path / "a.parquet", [[1.0, 2.0]]), tmp_path).series[0].values
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 5.0


def test_a_corpus_is_laid_out_and_sampled_in_a_fraction_of_its_size(tmp_path: Path) -> None:
    series, length = 600, 25_000  # 60 MB
    path = tmp_path / "large.parquet"
    random = np.random.default_rng(0)
    block = random.normal(size=(20, length)).astype(np.float32)
    schema = pa.schema([("item_id", pa.string()), ("start", pa.string()), ("freq", pa.string()),
                        ("target", LISTS)])  # fmt: skip
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        target = pa.ListArray.from_arrays(np.arange(21, dtype=np.int32) * length, block.ravel())
        names = [pa.array([text] * 20) for text in ("a", "2024-01-01", "h")]
        for _ in range(series // 20):
            writer.write_batch(pa.record_batch([*names, target], schema=schema))
    del block, target
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)  # counts from zero
    tracemalloc.start()
    pa.set_memory_pool(pool)
    try:
        group = read(path, tmp_path)
        for place in random.integers(series, size=500):
            assert np.isfinite(group.series[int(place)].values[-600:]).all()
        peak = tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        pa.set_memory_pool(usual)
        tracemalloc.stop()
    assert group.points * 4 == 60_000_000
    assert peak < 15_000_000


def test_a_corpus_pickles_as_its_place(tmp_path: Path) -> None:
    group = read(write(tmp_path / "a.parquet", [[1.0] * 10_000, [2.0] * 10_000]), tmp_path)
    pickled = pickle.dumps([group, group])
    assert len(pickled) < 1000
    copy, _ = pickle.loads(pickled)
    np.testing.assert_array_equal(copy.series[1].values, group.series[1].values)


def _read_with_another(path: Path, cache: Path, barrier: Any, results: Any) -> None:
    built: list[Path] = []
    write_store = corpus_cache.write_store

    def counted(stem: Path, batches: Any) -> None:
        built.append(stem)
        write_store(stem, batches)

    corpus_cache.write_store = counted
    barrier.wait(60)
    results.put((read(path, cache).points, len(built)))


def test_two_processes_that_start_at_once_build_it_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [[float(k)] * 500 for k in range(500)])
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    arguments = (path, tmp_path / "cache", barrier, results)
    builders = [context.Process(target=_read_with_another, args=arguments) for _ in range(2)]
    for builder in builders:
        builder.start()
    outcomes = [results.get(timeout=60) for _ in builders]
    for builder in builders:
        builder.join(60)
    assert sorted(outcomes) == [(250_000, 0), (250_000, 1)]


@pytest.fixture
def cached(tmp_path: Path) -> tuple[Path, Path, NDArray[np.float32]]:
    """A file, its filled cache, and its values."""
    values = np.arange(100, dtype=np.float32)
    path = write(tmp_path / "a.parquet", [values])
    read(path, tmp_path / "cache")
    return path, tmp_path / "cache", values


@pytest.mark.parametrize("ending", ["index", "f32"])
@pytest.mark.parametrize("damage", ["empty", "short", "long", "absent"])
def test_a_damaged_cache_is_built_anew(
    cached: tuple[Path, Path, NDArray[np.float32]], ending: str, damage: str
) -> None:
    path, cache, values = cached
    file = stored(cache, ending)
    content = file.read_bytes()
    file.unlink()
    if damage != "absent":
        file.write_bytes({"empty": b"", "short": content[:-1], "long": content + b"x"}[damage])
    np.testing.assert_array_equal(read(path, cache).series[0].values, values)
    assert stored(cache, ending).read_bytes() == content


def test_a_changed_byte_anywhere_in_the_index_is_noticed(
    cached: tuple[Path, Path, NDArray[np.float32]],
) -> None:
    path, cache, values = cached
    content = stored(cache, "index").read_bytes()
    for place in range(0, len(content), 97):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        stored(cache, "index").write_bytes(changed)
        np.testing.assert_array_equal(read(path, cache).series[0].values, values)


def test_a_changed_file_is_read_anew_and_its_old_values_removed(
    cached: tuple[Path, Path, NDArray[np.float32]],
) -> None:
    path, cache, values = cached
    before = read(path, cache)
    old = stored(cache, "f32")
    write(path, [values[::-1]])
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    np.testing.assert_array_equal(read(path, cache).series[0].values, values[::-1])
    assert stored(cache, "f32") != old
    np.testing.assert_array_equal(before.series[0].values, values)  # what is mapped stays
    with pytest.raises(InputError, match="cache changed while in use; start the run again"):
        pickle.loads(pickle.dumps(before))


def test_an_unchanged_file_is_not_read_again(
    cached: tuple[Path, Path, NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache, values = cached
    monkeypatch.setattr(corpus_cache, "read_rows", None)
    np.testing.assert_array_equal(read(path, cache).series[0].values, values)


def test_files_of_one_name_do_not_share_a_cache_entry(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        write(tmp_path / place / "load.parquet", [[1.0 if place == "a" else 2.0]])
    cache = tmp_path / "cache"
    groups = read_corpus([tmp_path / "a", tmp_path / "b"], shortest=1, cache=cache)
    assert [group.series[0].values[0] for group in groups] == [1.0, 2.0]


def test_the_default_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    read_corpus([write(tmp_path / "a.parquet", [[1.0]])], shortest=1)
    assert stored(tmp_path / "xdg" / "laglite" / "corpus", "f32").stat().st_size == 4


def test_a_cache_folder_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [[1.0]])
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"file/cache: the corpus cache cannot be written .*XDG_CACHE_HOME"
    ):
        read(path, tmp_path / "file" / "cache")


def test_a_file_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [[1.0]] * 3 + [[float("inf")]], row_group_size=1)
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match=r"a\.parquet, row 3 .*infinite value \(inf at 0\)"):
        read(path, cache)
    assert [file.name for file in cache.iterdir()] == [".lock"]


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.parquet", [[1.0]])
    write_store = corpus_cache.write_store

    def slowly(*arguments: Any) -> None:
        write_store(*arguments)
        os.utime(path, ns=(1, 1))

    monkeypatch.setattr(corpus_cache, "write_store", slowly)
    with pytest.raises(InputError, match="changed while it was read"):
        read(path, tmp_path / "cache")


def test_laying_out_a_large_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_cache, "LARGE_BYTES", 1)
    path = write(tmp_path / "a.parquet", [[1.0]])
    notes: list[str] = []
    for _ in range(2):
        read_corpus([path], shortest=1, cache=tmp_path, note=notes.append)
    assert notes == [f"{path}: laying out its values in {tmp_path}, once"]
