"""The Lag-Llama network in PyTorch (Rasul et al. 2024, section 4), parameter names as published."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laglite.rope import rotary_tables
from laglite.spec import ModelSpec
from laglite_train.distributions import domain_map, initial_projection

KeysValues = tuple[Tensor, Tensor]


class RMSNorm(nn.Module):
    """Root mean square normalisation of each tower with one gain vector; statistics in float32."""

    def __init__(self, *widths: int, eps: float = 1e-5) -> None:
        """`widths` of the towers."""
        super().__init__()
        self.scale = nn.Parameter(torch.ones(sum(widths)))
        self.eps = eps
        self.widths = list(widths)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self._divided(part) for part in x.split(self.widths, -1)]
        return (self.scale * joined(parts)).type_as(x)

    def _divided(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.float().pow(2).mean(dim=-1, keepdim=True) + self.eps)


class SideBySide(nn.ModuleList):
    """Linear maps of the parts of their input, one for each tower, without a bias."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__(nn.Linear(inputs, outputs, bias=False) for inputs, outputs in sizes)
        self.inputs = [inputs for inputs, _ in sizes]

    def parts(self, x: Tensor) -> list[Tensor]:
        """Each tower's output [..., out] of its part of x [..., in]."""
        pieces = x.split(self.inputs, -1)
        return [layer(piece) for layer, piece in zip(self, pieces, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.parts(x), -1)


def projection(sizes: Sequence[tuple[int, int]]) -> nn.Module:
    """A linear map of (inputs, outputs) for each tower; of one, as published, a plain layer."""
    if len(sizes) > 1:
        return SideBySide(sizes)
    return nn.Linear(*sizes[0], bias=False)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts [..., n] side by side."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the halves of each head by the angle of its position.

    x is [batch, heads, tokens, head_dim]; cos and sin are [tokens, head_dim / 2].
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class CausalSelfAttention(nn.Module):
    """Multi-head attention over the past; `kv_proj` holds the key rows first, then the values."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.num_heads = spec.num_heads
        widths = [width for width, _ in spec.tower_sizes]
        self.q_proj = projection([(width, width) for width in widths])
        self.kv_proj = projection([(width, 2 * width) for width in widths])
        self.c_proj = projection([(width, width) for width in widths])

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, not rotated yet: [..., heads, head_dim] of x [..., width]."""
        both = self.kv_proj.parts(x) if isinstance(self.kv_proj, SideBySide) else [self.kv_proj(x)]
        halves = [part.chunk(2, dim=-1) for part in both]
        key, value = (joined(parts) for parts in zip(*halves, strict=True))
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)) for part in (self.q_proj(x), key, value)
        )
        return query, key, value

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, KeysValues]:
        """Mixed values [batch, tokens, width], and rotated keys and values."""
        query, key, value = (part.transpose(1, 2) for part in self.heads(x))
        key = rotate(key, cos, sin)
        mixed = F.scaled_dot_product_attention(rotate(query, cos, sin), key, value, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).flatten(2)), (key, value)


class MLP(nn.Module):
    """SwiGLU: c_proj(silu(c_fc1 x) * c_fc2 x)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.c_fc1 = projection(spec.tower_sizes)
        self.c_fc2 = projection(spec.tower_sizes)
        self.c_proj = projection([(hidden, width) for width, hidden in spec.tower_sizes])

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.c_proj(F.silu(self.c_fc1(x)) * self.c_fc2(x))
        return projected


class Block(nn.Module):
    """One pre-normalised decoder layer."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        widths = [width for width, _ in spec.tower_sizes]
        self.rms_1 = RMSNorm(*widths)
        self.attn = CausalSelfAttention(spec)
        self.rms_2 = RMSNorm(*widths)
        self.mlp = MLP(spec)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, KeysValues]:
        mixed, cache = self.attn(self.rms_1(x), cos, sin)
        x = x + mixed
        return x + self.mlp(self.rms_2(x)), cache


class ParameterProjection(nn.Module):
    """One linear map from the final hidden state to each distribution argument."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.proj = nn.ModuleList(nn.Linear(spec.width, 1) for _ in spec.arguments)

    def forward(self, x: Tensor) -> list[Tensor]:
        weight = torch.cat([layer.weight for layer in self.proj])
        bias = torch.cat([layer.bias for layer in self.proj])
        with torch.autocast(x.device.type, enabled=False):  # a likelihood needs more than 8 bits
            return list(F.linear(x.to(weight.dtype), weight, bias).unbind(dim=-1))


class LagLlama(nn.Module):
    """Tokens in, arguments of the next value's distribution out, at every position at once."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Linear(spec.num_features, spec.width),
                "h": nn.ModuleList(Block(spec) for _ in range(spec.num_layers)),
                "ln_f": RMSNorm(*(width for width, _ in spec.tower_sizes)),
            }
        )
        self.param_proj = ParameterProjection(spec)
        if spec.regression:
            self.regression_gate = nn.Linear(spec.width, spec.num_gates)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Teacher-forced pass over prompt and known future.

        tokens is float32 [batch, tokens, features] (see `laglite.tokens`); the result holds one
        [batch, tokens] tensor per argument of the head, in scaled units after the domain map.
        Position t describes the value at t + 1.
        """
        return self.with_caches(tokens)[0]

    def with_caches(self, tokens: Tensor) -> tuple[dict[str, Tensor], list[KeysValues]]:
        """What `forward` gives, and each layer's rotated keys and values.

        Those are [batch, heads, tokens, head_dim].
        """
        tables = rotary_tables(self.spec, tokens.shape[1])
        cos, sin = (torch.from_numpy(table).to(tokens) for table in tables)
        x = self.embed(tokens)
        caches = []
        for block in self.transformer["h"]:
            x, cache = block(x, cos, sin)
            caches.append(cache)
        return self.head(x, tokens), caches

    def embed(self, tokens: Tensor) -> Tensor:
        """The residual stream [..., width] that `tokens` [..., features] begin."""
        # Values of a smooth series differ in digits that bfloat16 does not have.
        with torch.autocast(tokens.device.type, enabled=False):
            x: Tensor = self.transformer["wte"](tokens)
        return x

    def head(self, x: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """Arguments [...] of the hidden states x [..., width] behind `tokens` [..., features]."""
        with torch.autocast(x.device.type, enabled=False):
            x = self.transformer["ln_f"](x)
            arguments = domain_map(self.spec.head, self.param_proj(x))
            anchor = self._anchor(x, tokens)
        if anchor is not None:
            for name in arguments:
                if name.startswith("loc"):
                    arguments[name] = arguments[name] + anchor
        return arguments

    def _anchor(self, x: Tensor, tokens: Tensor) -> Tensor | None:
        """What every loc is the change from, [...]; None where it is the value itself."""
        if not self.spec.residual:
            return None
        value = tokens[..., 0]  # lag 0
        if not self.spec.regression:
            return value
        gate = self.regression_gate
        shares = torch.sigmoid(F.linear(x.to(gate.weight.dtype), gate.weight, gate.bias))
        share = shares.mean(-1)  # over towers
        return value + share * (tokens[..., self.spec.num_lags] - value)

    def initialise(self) -> None:
        """Draw fresh weights: normal, narrower where a layer writes to the residual stream."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                std = 1.0 / math.sqrt(parameter.shape[1])
                if ".c_proj." in name:
                    std /= math.sqrt(2 * self.spec.num_layers)
                nn.init.normal_(parameter, std=std)
        with torch.no_grad():
            for layer, (bias, factor) in zip(
                self.param_proj.proj, initial_projection(self.spec.head), strict=True
            ):
                layer.bias.fill_(bias)
                layer.weight.mul_(factor)
            if self.spec.regression:  # begins halfway between the last value and the regression
                self.regression_gate.weight.zero_()
