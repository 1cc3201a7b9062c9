"""quantize: a tensor in a 4-bit block format, and what formats there are (docs/formats.md)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from ufp4 import InputError
from ufp4.library import message_of, operators


class Format(NamedTuple):
    """A 4-bit block format."""

    name: str
    block: int  # elements that share a scale, unless the caller asks for another size
    summary: str


def formats() -> list[Format]:
    """The formats, in the order in which ufp4 lists them."""
    table = operators().format_table()
    return [Format(table[i], int(table[i + 1]), table[i + 2]) for i in range(0, len(table), 3)]


@dataclass(frozen=True)
class QuantizedTensor:
    """A tensor in a 4-bit block format: what `ufp4.quantize` gives.

    codes         uint8 [rows, columns / 2]: two codes a byte, the even element in the low nibble
    scales        float32 [rows, columns / block], or uint8 where the format stores scales in bytes
    outer_scales  float32, two-dimensional: second-level scales; empty where the format has none
    shape         of the tensor that was quantized; columns are padded to whole blocks

    With axis "column" rows and columns are those of the transposed matrix.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    outer_scales: torch.Tensor
    format: str
    block: int
    outer: str
    axis: str
    hadamard: int
    shape: torch.Size

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """level * scale * second-level scale, in float32 or bfloat16: in the shape of the tensor, or of its transpose
        with axis "column". After a transform these are values of the transformed tensor, with its padding."""
        try:
            values = operators().dequantize(self.codes, self.scales, self.format, block=self.block, outer_scales=self.outer_scales,
                                            outer=self.outer, dtype=dtype)
        except RuntimeError as error:
            raise InputError(f"dequantize: {message_of(error)}") from None
        if self.axis == "column":
            return values if self.hadamard else values[:, :_rows(self.shape)]
        if self.hadamard:
            return values.reshape(*self.shape[:-1], values.shape[1])
        return values[:, :self.shape[-1]].reshape(self.shape)

    @property
    def bits_per_element(self) -> float:
        """Bits of codes and scales for each element of the tensor."""
        stored = sum(t.numel() * t.element_size() for t in (self.codes, self.scales, self.outer_scales))
        return 8 * stored / max(1, self.shape.numel())


def quantize(x: torch.Tensor, format: str = "e1m2", *, block: int = 0, axis: str = "row", hadamard: int = 0, rounding: str = "rtne",
             outer: str = "own", seed: int = 0, step: int = 0, stream: int = 0) -> QuantizedTensor:
    """Quantizes x [.., columns], float32, bfloat16 or float16, on a CPU or a GPU.

    format              a name of `formats()`
    block               elements that share a scale: 16, 32, 64 or 128; 0: the format's own
    axis                "row": blocks along the last axis; "column": along the first of a matrix, of its transpose then
    hadamard            size of the random Hadamard transform before: 16, 32, 64, 128; 0: none
    rounding            "rtne", to the nearest level, or "sr", stochastically
    outer               what shares a second-level scale, for formats that let it be chosen: "tensor", "row", "1x128", "128x128",
                        "1x256", "1x512", "1x1024"; "own": the format's own
    seed, step, stream  random bits follow from them, and the transform's signs from the seed

    Raises InputError that names the argument, what was found and what was expected.
    """
    if not isinstance(x, torch.Tensor):
        raise InputError(f"quantize: x is {type(x).__name__}, expected a torch.Tensor")
    if x.ndim == 0 or (axis == "column" and x.ndim != 2):
        raise InputError(f"quantize: x has {x.ndim} dimensions, expected {'a matrix' if axis == 'column' else 'at least one'}")
    matrix = x.detach().reshape(_rows(x.shape), x.shape[-1])
    try:
        codes, scales, outer_scales = operators().quantize(matrix, format, block=block, axis=axis, hadamard=hadamard, hadamard_seed=seed,
                                                           rounding=rounding, seed=seed, step=step, stream=stream, outer=outer)
    except RuntimeError as error:
        raise InputError(f"quantize: {message_of(error)}") from None
    return QuantizedTensor(codes, scales, outer_scales, format, block, outer, axis, hadamard, x.shape)


def _rows(shape: torch.Size) -> int:
    return shape[:-1].numel()
