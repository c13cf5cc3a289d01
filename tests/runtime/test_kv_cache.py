"""The suffix cache: written in place, grown without losing anything."""

from __future__ import annotations

import numpy as np

from laglite.kv_cache import FIRST_CAPACITY, SuffixCache, empty_prompts
from laglite.spec import ModelSpec

PATHS = 3


def filled(spec: ModelSpec, steps: int, most: int) -> tuple[SuffixCache, list[np.ndarray]]:
    """A cache after `steps` tokens, and the keys that went in."""
    cache = SuffixCache(spec, PATHS, most, "float32")
    random = np.random.default_rng(0)
    written = []
    for _ in range(steps):
        cache.reserve()
        shape = (spec.num_layers, PATHS, spec.num_heads, spec.head_dim)
        keys = random.standard_normal(shape).astype(np.float32)
        cache.append(keys, -keys)
        written.append(keys)
    return cache, written


def test_every_token_is_found_where_it_was_written(small_spec: ModelSpec) -> None:
    steps = 3 * FIRST_CAPACITY
    cache, written = filled(small_spec, steps, steps)
    for step, keys in enumerate(written):
        for layer in range(small_spec.num_layers):
            np.testing.assert_array_equal(cache.keys[layer][:, :, step], keys[layer])
            np.testing.assert_array_equal(cache.values[layer][:, :, step], -keys[layer])


def test_the_mask_opens_one_position_a_token(small_spec: ModelSpec) -> None:
    cache, _ = filled(small_spec, FIRST_CAPACITY + 2, 100)
    assert (cache.mask[: cache.length] == 0).all()
    assert np.isneginf(cache.mask[cache.length :]).all()


def test_memory_is_kept_until_the_capacity_is_used_up(small_spec: ModelSpec) -> None:
    cache = SuffixCache(small_spec, PATHS, 100, "float32")
    first = cache.keys
    for _ in range(FIRST_CAPACITY):
        assert not cache.reserve()
        shape = (small_spec.num_layers, PATHS, small_spec.num_heads, small_spec.head_dim)
        cache.append(np.ones(shape, np.float32), np.ones(shape, np.float32))
    assert cache.keys is first
    assert cache.reserve()


def test_the_capacity_never_exceeds_what_the_horizon_needs(small_spec: ModelSpec) -> None:
    cache, _ = filled(small_spec, 40, 40)
    assert cache.keys[0].shape == (PATHS, small_spec.num_heads, 40, small_spec.head_dim)
    assert len(SuffixCache(small_spec, PATHS, 5, "float32").mask) == 5


def test_caches_are_kept_in_the_graphs_own_kind_of_number(small_spec: ModelSpec) -> None:
    cache = SuffixCache(small_spec, PATHS, 4, "float16")
    assert {cache.keys.dtype, cache.values.dtype} == {np.dtype(np.float16)}
    assert cache.mask.dtype == np.float32
    for keys, values in empty_prompts(small_spec, 1, "float16"):
        assert {keys.dtype, values.dtype} == {np.dtype(np.float16)}


def test_prompts_begin_with_a_border_on_which_a_query_scores_its_extra_number(
    small_spec: ModelSpec,
) -> None:
    pairs = empty_prompts(small_spec, 2, "float32")
    assert len(pairs) == small_spec.num_layers
    heads, dim = small_spec.num_heads, small_spec.head_dim
    queries = np.random.default_rng(0).standard_normal((2, heads, 5, dim + 1))
    for keys, values in pairs:
        np.testing.assert_array_equal(queries @ keys, queries[..., -1:])
        np.testing.assert_array_equal(values, np.zeros((2, heads, 1, dim)))
