"""Chronos-Bolt at its published sizes; its weights are random, which does not change its speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

# d_model, d_ff, layers and heads of amazon/chronos-bolt-tiny and -small.
BOLTS = {"Chronos-Bolt tiny": (256, 1024, 4, 4), "Chronos-Bolt small": (512, 2048, 6, 8)}


def bolt(
    name: str, levels: Sequence[float], horizon: int, device: str = "cpu"
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """A forecast's quantiles from [series, length]; ModuleNotFoundError without the package."""
    import torch
    from chronos.chronos_bolt import ChronosBoltModelForForecasting, ChronosBoltPipeline
    from transformers import T5Config

    width, hidden, layers, heads = BOLTS[name]
    config = T5Config(
        vocab_size=2, d_model=width, d_kv=64, d_ff=hidden, num_layers=layers, num_heads=heads,
        num_decoder_layers=layers, dropout_rate=0.0, feed_forward_proj="relu", pad_token_id=0,
        eos_token_id=1, decoder_start_token_id=0, is_encoder_decoder=True,
    )  # fmt: skip
    config.chronos_config = {
        "context_length": 2048, "prediction_length": 64, "input_patch_size": 16,
        "input_patch_stride": 16, "quantiles": levels, "use_reg_token": True,
    }  # fmt: skip
    pipeline = ChronosBoltPipeline(ChronosBoltModelForForecasting(config).to(device).eval())

    def run(series: NDArray[Any]) -> NDArray[Any]:
        values = torch.from_numpy(series).float()
        found = pipeline.predict_quantiles(
            values, prediction_length=horizon, quantile_levels=levels
        )
        quantiles: NDArray[Any] = found[0].cpu().numpy()
        return quantiles

    return run
