"""onnxruntime-gpu and laglite's `cuda` over stand-ins for CUDA's libraries: all but the numbers."""

from __future__ import annotations

import pytest

from laglite.device_decoding import SHARE
from tests.cuda_stand_ins.conftest import Play, Played

HORIZON = 24
TF32_MODE = "math_mode 3"  # CUBLAS_TF32_TENSOR_OP_MATH
MUCH, LITTLE = 200 * 10**9, 2 * 10**9  # bytes


@pytest.fixture(scope="session")
def played(play: Play) -> Played:
    """A forecast twice over."""
    return play("forecast", horizon=HORIZON)


def test_every_node_of_every_graph_of_a_forecast_is_cudas(play: Play) -> None:
    placed = play("placement").found
    assert len(placed) == 16
    assert [name for name, graph in placed.items() if graph["ours"] == 0] == []
    assert {name: graph["others"] for name, graph in placed.items() if graph["others"]} == {}


def test_cuda_refuses_nothing_of_a_forecast(played: Played) -> None:
    assert played.of("refused") == []
    assert played.found["warnings"] == []


def test_prefill_and_device_step_are_captured_once_each(played: Played) -> None:
    assert played.found["captures"]
    assert len(played.after("forecast 0").of("begin_capture")) == 2
    assert len(played.after("forecast 1").of("begin_capture")) == 0


def test_a_captured_step_is_one_launch_of_its_graph(played: Played) -> None:
    again = played.after("forecast 1")
    prefill, *steps = [event.text for event in again.of("launch_graph")]
    assert len(steps) == HORIZON - 1
    assert len(set(steps)) == 1
    assert prefill not in steps
    assert again.of("launch_kernel") == again.of("call") == []


def test_a_capture_holds_no_memory_of_the_host_that_may_be_given_away(played: Played) -> None:
    captured = [event.text for event in played.of("copy") if event.captures]
    assert captured
    assert all(" from pinned " in text for text in captured)


def test_caches_are_written_in_place(played: Played) -> None:
    copied = [event.text for event in played.of("copy")]
    assert copied
    assert [text for text in copied if "device from device" in text] == []


def test_products_are_not_made_in_tf32(played: Played) -> None:
    assert played.of("call cublasSgemm") != []
    assert played.of(TF32_MODE) == []


@pytest.mark.parametrize(
    "size",
    [
        {"series": 64, "paths": 100, "context": 200, "horizon": 24},
        {"series": 64, "paths": 100, "context": 32, "horizon": 64},
        {"series": 16, "paths": 100, "context": 900, "horizon": 64},
        {"series": 16, "paths": 20, "context": 900, "horizon": 64, "precision": "fp16"},
    ],
)
def test_a_batch_takes_about_what_was_predicted(play: Play, size: dict[str, int]) -> None:
    (batch,) = play("forecast", times=1, **size).found["batches"]
    assert batch["series"] == size["series"]
    assert SHARE * batch["predicted"] < batch["used"] < batch["predicted"] / SHARE


def test_a_batch_for_which_memory_no_longer_is_free_is_halved(play: Play) -> None:
    played = play("forecast", series=64, paths=100, context=200, left=LITTLE)
    tried, *halves = played.found["batches"]
    assert (tried["series"], tried["fits"]) == (64, False)
    assert all((half["series"], half["fits"]) == (32, True) for half in halves)
    assert len(halves) == 4  # two in each forecast
    assert {event.text for event in played.of("refused")} == {
        "refused an allocation: out of memory"
    }


def test_threads_and_models_do_not_spoil_each_others_captures(play: Play) -> None:
    played = play("threads")
    assert played.found["failed"] == []
    assert played.of("refused") == []
    assert len(played.of("begin_capture")) > 40
    capturing = ""
    for event in played.events:
        if event.text == "begin_capture":
            capturing = event.thread
        assert not event.captures or event.thread == capturing, event


def test_where_a_capture_fails_a_forecast_goes_on_without_graphs(play: Play) -> None:
    played = play("forecast", refuse="cublasSgemm_v2")
    (warning,) = played.found["warnings"]
    assert warning.endswith("; it runs without CUDA graphs, which takes longer")
    assert not played.found["captures"]
    assert played.of("refused") != []
    for mark in ("forecast 0", "forecast 1"):
        part = played.after(mark)
        assert part.of("refused") == part.of("begin_capture") == part.of("launch_graph") == []
        assert part.of("launch_kernel") != []


@pytest.mark.parametrize(
    "size",
    [
        {"series": 256, "paths": 1000, "context": 200, "horizon": 8},
        {"series": 32, "paths": 100, "context": 900, "horizon": 120},
        {"series": 1, "paths": 40_000, "context": 32, "horizon": 8},
    ],
)
def test_no_kernel_of_a_large_batch_is_beyond_cudas_limits(
    play: Play, size: dict[str, int]
) -> None:
    played = play("forecast", memory=MUCH, left=MUCH, times=1, **size)
    assert played.found["batches"][0]["series"] == size["series"]
    assert played.of("launch_kernel") != []
    assert played.of("refused") == []
