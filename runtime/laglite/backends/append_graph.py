"""A graph that writes one token's keys and values into the suffixes where they lie.

onnxruntime has no copy into a part of a tensor on a device, so a graph does it: its outputs are
bound to the memory of its inputs, and each element is read and written at its own place. The graph
is written as protobuf here, since the runtime does without the package onnx.
"""

from __future__ import annotations

from collections.abc import Sequence

from laglite.backends.device import IN_PLACE
from laglite.spec import ModelSpec

ELEMENT_TYPES = {"float32": 1, "bool": 9, "float16": 10}  # TensorProto.DataType
IR_VERSION, OPSET = 8, 17
Dimension = int | str


def append_graph(spec: ModelSpec, dtype: str) -> bytes:
    """An ONNX model for caches of `dtype`.

    Inputs for each layer: `suffix_key_l` and `suffix_value_l` [paths, heads, capacity, head_dim],
    `new_key_l` and `new_value_l` [paths, heads, 1, head_dim]; and `place`, bool [capacity, 1],
    true at the new token's place. Outputs `next_suffix_key_l` and `next_suffix_value_l`.
    """
    suffix = ("paths", spec.num_heads, "capacity", spec.head_dim)
    token = ("paths", spec.num_heads, 1, spec.head_dim)
    nodes, inputs, outputs = [], [_value("place", "bool", ("capacity", 1))], []
    for layer in range(spec.num_layers):
        for kind in ("key", "value"):
            old, new = f"suffix_{kind}_{layer}", f"new_{kind}_{layer}"
            inputs += [_value(old, dtype, suffix), _value(new, dtype, token)]
            outputs.append(_value(IN_PLACE + old, dtype, suffix))
            nodes.append(_node("Where", ["place", new, old], IN_PLACE + old))
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"append")
    graph += b"".join(_field(11, value) for value in inputs)
    graph += b"".join(_field(12, value) for value in outputs)
    return _number(1, IR_VERSION) + _field(7, graph) + _field(8, _number(2, OPSET))


def _node(operator: str, inputs: Sequence[str], output: str) -> bytes:
    names = b"".join(_field(1, name.encode()) for name in inputs)
    return names + _field(2, output.encode()) + _field(4, operator.encode())


def _value(name: str, dtype: str, shape: Sequence[Dimension]) -> bytes:
    """A ValueInfoProto of a tensor."""
    dimensions = b"".join(
        _field(1, _number(1, size) if isinstance(size, int) else _field(2, size.encode()))
        for size in shape
    )
    tensor = _number(1, ELEMENT_TYPES[dtype]) + _field(2, dimensions)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the eighth bit set."""
    head = bytearray()
    while value > 127:
        head.append(value & 127 | 128)
        value >>= 7
    return bytes([*head, value])
