"""Safetensors files, written tensor after tensor: no more than one is in memory."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

# What a file calls an element, and the bytes of one.
ELEMENTS = {"F32": 4, "BF16": 2, "F16": 2, "U8": 1, "I8": 1, "F8_E4M3": 1, "I32": 4, "I64": 8}


def size_of(element: str, shape: tuple[int, ...]) -> int:
    size = ELEMENTS[element]
    for side in shape:
        size *= side
    return size


def header_of(specs: list[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str] | None = None) -> bytes:
    """Of tensors (name, element, shape) in the order of their data, padded so that the data are aligned."""
    header: dict = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, element, shape in specs:
        end = offset + size_of(element, shape)
        header[name] = {"dtype": element, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_tensors(path: Path, specs: list[tuple[str, str, tuple[int, ...]]], arrays: Iterable[np.ndarray],
                  metadata: dict[str, str] | None = None) -> None:
    """A new file, on the disk when this returns. An array holds the bytes of its tensor, of whatever element."""
    with open(path, "xb") as file:
        file.write(header_of(specs, metadata))
        for (name, element, shape), array in zip(specs, arrays, strict=True):
            if array.nbytes != size_of(element, shape):
                raise ValueError(f"{name}: {array.nbytes} bytes for {element} {list(shape)}")
            file.write(np.ascontiguousarray(array).data if array.size else b"")
        file.flush()
        os.fsync(file.fileno())


def bfloat16_bits(array: np.ndarray) -> np.ndarray:
    """Of finite float32, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)
