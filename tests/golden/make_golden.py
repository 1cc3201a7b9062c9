"""Makes the golden files of this folder by running the packages that other people publish.

    pip install ml_dtypes==0.6.0 torchao==0.18.0 safetensors torch==2.11.0
    python tests/golden/make_golden.py

Only their results are kept. conversions.txt: what ml_dtypes' casts give for every code of the 8-bit formats and around
every rounding boundary, and for the 16-bit formats one hash over all of them. torchao_*.safetensors: inputs, codes and
scales of torchao's block formats.
"""

import pathlib

import ml_dtypes
import numpy as np
import torch
from safetensors.numpy import save_file
from torchao.prototype.mx_formats.mx_tensor import ScaleCalculationMode, to_mx
from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize

HERE = pathlib.Path(__file__).parent
EIGHT_BIT = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2, "e8m0": ml_dtypes.float8_e8m0fnu}
SIXTEEN_BIT = {"bf16": ml_dtypes.bfloat16, "f16": np.float16}


def fnv1a(words: np.ndarray) -> int:
    """64-bit FNV-1a over little-endian 32-bit words, one word a step."""
    value = 0xCBF29CE484222325
    for word in words.astype(np.uint64).tolist():
        value = ((value ^ word) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def boundaries(values: np.ndarray) -> np.ndarray:
    """Every value, every midpoint of two neighbours, and the FP32 neighbours of both."""
    finite = np.unique(values[np.isfinite(values)].astype(np.float64))
    points = np.concatenate([finite, (finite[1:] + finite[:-1]) / 2]).astype(np.float32)
    around = [points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf))]
    return np.unique(np.concatenate(around)) + np.float32(0)  # one zero, the positive


def conversions() -> list[str]:
    lines = []
    for name, dtype in EIGHT_BIT.items():
        codes = np.arange(256, dtype=np.uint8)
        decoded = codes.view(dtype).astype(np.float32)
        lines += [f"decode {name} {c:02x} {b:08x}" for c, b in zip(codes, decoded.view(np.uint32)) if not np.isnan(decoded[c])]
        inputs = boundaries(decoded)
        if name == "e8m0":
            inputs = inputs[inputs > 0]
        encoded = inputs.astype(dtype).view(np.uint8)
        lines += [f"encode {name} {b:08x} {c:02x}" for b, c in zip(inputs.view(np.uint32), encoded)]
    for name, dtype in SIXTEEN_BIT.items():
        codes = np.arange(65536, dtype=np.uint16)
        decoded = codes.view(dtype).astype(np.float32)
        keep = ~np.isnan(decoded)
        lines.append(f"decode_all {name} {fnv1a(decoded.view(np.uint32)[keep]):016x}")
        inputs = boundaries(decoded[keep])
        lines.append(f"encode_all {name} {len(inputs)} {fnv1a(inputs.astype(dtype).view(np.uint16)):016x}")
    return lines


def inputs() -> torch.Tensor:
    """Rows of different characters: normal, heavy-tailed, tiny, huge, with zero blocks, constant, exact ties."""
    g = torch.Generator().manual_seed(20260620)
    x = torch.randn(48, 256, generator=g)
    x[8:16] = x[8:16] ** 3
    x[16:20] *= 2.0**-100
    x[20:24] *= 2.0**100
    x[24:28, ::3] = 0
    x[28:32, 32:64] = 0
    x[32] = 1.0
    levels = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0])
    x[33:41] = levels.repeat(8, 32) * torch.where(torch.rand(8, 256, generator=g) < 0.5, -1.0, 1.0)
    x[41:48] = x[41:48].bfloat16().float()
    return x


def block_formats() -> None:
    x = inputs()
    scales, packed = to_mx(x, torch.float4_e2m1fn_x2, 32, ScaleCalculationMode.FLOOR)
    save_file({"input": x.numpy(), "scales": scales.view(torch.uint8).numpy(), "codes": packed.numpy()},
              HERE / "torchao_mxfp4.safetensors")
    normal = x[[*range(16), *range(24, 48)]].contiguous()
    amax = normal.abs().max()
    scales, packed = nvfp4_quantize(normal, 16, amax / (448.0 * 6.0))
    save_file({"input": normal.numpy(), "scales": scales.view(torch.uint8).numpy(), "codes": packed.numpy()},
              HERE / "torchao_nvfp4.safetensors")


if __name__ == "__main__":
    (HERE / "conversions.txt").write_text("\n".join(conversions()) + "\n")
    block_formats()
