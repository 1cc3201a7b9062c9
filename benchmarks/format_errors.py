#!/usr/bin/env python3
"""What formats keep of drawn data: SQNR and alpha, to nearest and stochastically, as a table in Markdown.

alpha is <q, x> / <x, x>, 1 for a format without bias. Normal values are quantized as they are; silu(a) * b of normal a
and b ("swiglu") and Student-t values with three degrees of freedom ("student3") after a Hadamard transform of 16. Needs
the Python package, installed or found with PYTHONPATH and --ops-library.

    PYTHONPATH=python benchmarks/format_errors.py --ops-library build/release/lib/libufp4_torch_ops.so
"""

import argparse
import math

import torch

import ufp4
from ufp4 import library

SCHEMES = ["e1m2", "int4_full", "int4_p2", "int4_i4:1x128", "int4_i4:1x256", "int4_i4:1x512", "int4_i4:1x1024", "int4_i4:row"]
HADAMARD = {"normal": 0, "swiglu": 16, "student3": 16}


def draw(name: str, rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    def normal():
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64)

    if name == "normal":
        return normal().float()
    if name == "swiglu":
        return (torch.nn.functional.silu(normal()) * normal()).float()
    chi_squared = sum(normal().square() for _ in range(3))
    return (normal() / (chi_squared / 3).sqrt()).float()


def transformed(x: torch.Tensor, size: int, seed: int) -> torch.Tensor:
    """x with the random Hadamard transform of that size, in float64."""
    runs = x.double().reshape(-1, max(size, 1))
    if size == 0:
        return x.double()
    runs = runs * torch.tensor(library.operators().hadamard_signs(size, seed), dtype=torch.float64)
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while matrix.shape[0] < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return (runs @ matrix / math.sqrt(size)).reshape(x.shape)


def figures(x: torch.Tensor, exact: torch.Tensor, scheme: str, hadamard: int, rounding: str, seed: int) -> str:
    name, _, outer = scheme.partition(":")
    quantized = ufp4.quantize(x, name, outer=outer or "own", hadamard=hadamard, rounding=rounding, seed=seed)
    error = quantized.dequantize(torch.float32).double() - exact
    power = exact.square().sum()
    return f"{10 * math.log10(power / error.square().sum()):.2f} dB, {1 + float((error * exact).sum() / power):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops-library", help="the library of a build, where the package is not installed")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--columns", type=int, default=4096, help="a multiple of 16")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.rows < 1 or arguments.columns < 16 or arguments.columns % 16:
        parser.error("--rows is at least 1 and --columns a multiple of 16")
    if arguments.ops_library:
        library.use(arguments.ops_library)
    columns = [(name, rounding) for name in HADAMARD for rounding in ("rtne", "sr")]
    cells = {scheme: [] for scheme in SCHEMES}
    generator = torch.Generator().manual_seed(arguments.seed)
    for name, hadamard in HADAMARD.items():
        x = draw(name, arguments.rows, arguments.columns, generator)
        exact = transformed(x, hadamard, arguments.seed)
        for scheme in SCHEMES:
            cells[scheme] += [figures(x, exact, scheme, hadamard, rounding, arguments.seed) for rounding in ("rtne", "sr")]
    print("| format | " + " | ".join(f"{name}, {rounding}" for name, rounding in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for scheme in SCHEMES:
        print(f"| {scheme.replace(':', ' ')} | " + " | ".join(cells[scheme]) + " |")


if __name__ == "__main__":
    main()
