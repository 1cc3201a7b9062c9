"""Linears packed in 4 bits, in the layout of compressed-tensors, which vLLM reads. The program ufp4 quantizes."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ufp4 import InputError, __version__
from ufp4.models.tensor_file import bfloat16_bits, write_tensors
from ufp4.models.weights import Shard

Spec = tuple[str, str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """How a format of ufp4 lies in a file: the name of the layout, and its arguments for a weight."""

    name: str
    block: int
    kind: str
    strategy: str


LAYOUTS = {
    "nvfp4": Layout("nvfp4-pack-quantized", 16, "float", "tensor_group"),
    "mxfp4": Layout("mxfp4-pack-quantized", 32, "float", "group"),
    "int4": Layout("pack-quantized", 32, "int", "group"),
}


def _e4m3_values() -> np.ndarray:
    """Of the bytes 0 to 0x7E, ascending."""
    byte = np.arange(0x7F)
    exponent, fraction = byte >> 3, byte & 7
    return np.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent - 7)).astype(np.float32)


def _e4m3_bytes(scales: np.ndarray) -> np.ndarray:
    """Of numbers that E4M3 has."""
    values = _e4m3_values()
    found = np.searchsorted(values, scales).astype(np.uint8)
    if not np.array_equal(values[np.minimum(found, 0x7E)], scales):
        raise ValueError("a scale is no E4M3 number")
    return found


def _e8m0_bytes(scales: np.ndarray) -> np.ndarray:
    """Of powers of two."""
    fraction, exponent = np.frexp(scales)
    if not np.array_equal(fraction, np.full_like(fraction, 0.5)):
        raise ValueError("a scale is no power of two")
    return (exponent - 1 + 127).astype(np.uint8)


class Packing:
    def __init__(self, name: str, program: str | None):
        if name not in LAYOUTS:
            raise InputError(f"--format is '{name}', expected one of " + ", ".join(LAYOUTS))
        if program is None or not os.access(program, os.X_OK):
            raise InputError(f"--format {name} needs the program ufp4, which quantizes: 'ufp4 export' gives it, --program names it")
        self.name = name
        self.layout = LAYOUTS[name]
        self.program = program

    def tensors(self, weights, scratch: Path, element: str, convert: Callable) -> tuple[list[Spec], Iterator[np.ndarray], dict]:
        """What is written in place of the weights, and what config.json says of it."""
        groups: list[tuple[str, tuple[int, ...], list[Spec]]] = []
        for name, shape in weights.parts():
            if not _is_linear(name):
                groups.append((name, shape, [(name, element, shape)]))
                continue
            if shape[1] % self.layout.block:
                raise InputError(f"'{name}' has {shape[1]} columns, expected a multiple of {self.layout.block}, the block of {self.name}")
            groups.append((name, shape, self._specs(name.removesuffix(".weight"), shape, element)))
        specs = [spec for _, _, own in groups for spec in own]

        def arrays():
            for name, _, own in groups:
                if len(own) == 1:
                    yield convert(weights.read(name))
                else:
                    yield from self._packed(weights.read(name), scratch, convert)

        return specs, arrays(), {"quantization_config": self._config()}

    def _specs(self, name: str, shape: tuple[int, ...], element: str) -> list[Spec]:
        rows, columns = shape
        scales = (rows, columns // self.layout.block)
        if self.name == "int4":
            return [(f"{name}.weight_packed", "I32", (rows, columns // 8)), (f"{name}.weight_scale", element, scales),
                    (f"{name}.weight_shape", "I64", (2,))]
        packed = (f"{name}.weight_packed", "U8", (rows, columns // 2))
        if self.name == "mxfp4":
            return [packed, (f"{name}.weight_scale", "U8", scales)]
        return [packed, (f"{name}.weight_scale", "F8_E4M3", scales), (f"{name}.weight_global_scale", "F32", (1,))]

    def _packed(self, weight: np.ndarray, scratch: Path, convert: Callable) -> Iterator[np.ndarray]:
        codes, scales, whole = self._quantize(weight, scratch)
        if self.name == "int4":
            # Eight codes a word, counted from -8; ours are in two's complement.
            yield np.ascontiguousarray(codes ^ 0x88).view("<u4")
            yield convert(scales)
            yield np.array(weight.shape, dtype="<i8")
        elif self.name == "mxfp4":
            yield codes
            yield _e8m0_bytes(scales)
        else:
            yield codes
            yield _e4m3_bytes(scales)
            yield np.array([np.float32(1) / whole], dtype="<f4")  # what scales are divided by there

    def _quantize(self, weight: np.ndarray, scratch: Path) -> tuple[np.ndarray, np.ndarray, np.float32]:
        """The codes, two a byte, the scales and the scale of all, of the weight rounded to BF16 as in a training."""
        source, result = scratch / ".weight.safetensors", scratch / ".codes.safetensors"
        try:
            write_tensors(source, [("w", "BF16", weight.shape)], [bfloat16_bits(weight)])
            command = [self.program, "quantize", str(source), str(result), "--format", self.name, "--block", str(self.layout.block)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise OSError(f"{' '.join(command[:2])} failed: {done.stderr.strip()}")
            file = Shard(result)
            codes = file.raw("w.codes", np.uint8)
            scales = file.read("w.scales").reshape(weight.shape[0], -1)
            return codes.reshape(weight.shape[0], -1), scales, np.float32(file.read("w.global_scale").reshape(()))
        finally:
            source.unlink(missing_ok=True)
            result.unlink(missing_ok=True)

    def _config(self) -> dict:
        layout = self.layout
        weights = {"num_bits": 4, "type": layout.kind, "strategy": layout.strategy, "group_size": layout.block,
                   "symmetric": True, "dynamic": False}
        if self.name == "nvfp4":
            weights["scale_dtype"] = "torch.float8_e4m3fn"
        if self.name == "mxfp4":
            weights["scale_dtype"] = "torch.uint8"
        return {
            "quant_method": "compressed-tensors",
            "format": layout.name,
            "quantization_status": "compressed",
            "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None,
                                          "output_activations": None, "format": layout.name}},
            "producer": f"ufp4 {__version__}",
        }


def _is_linear(name: str) -> bool:
    return name.startswith("model.layers.") and name.endswith("_proj.weight")
