"""What a 4-bit format keeps of a tensor, and of the operands of a model's linear layers (docs/analysis.md)."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ufp4 import InputError
from ufp4.library import operators
from ufp4.names import listed
from ufp4.quantization import formats as all_formats
from ufp4.quantization import quantize

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects

COLUMNS = ("layer", "operand", "format", "hadamard", "sqnr_db", "gain_db", "alpha", "delta", "nmse", "rms", "amax", "crest")


class Table(list[dict[str, Any]]):
    """Rows by column name, where pandas is not installed; prints as a table."""

    def __str__(self) -> str:
        texts = [[_text(row[column]) for column in COLUMNS] for row in self]
        widths = [max(len(line[i]) for line in [list(COLUMNS), *texts]) for i in range(len(COLUMNS))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in [list(COLUMNS), *texts])

    __repr__ = __str__


def sqnr(x: torch.Tensor, image: torch.Tensor) -> float:
    """Signal to quantization noise in dB: 10 log10(|x|^2 / |image - x|^2), summed in FP64; infinite where both are equal.

    Raises InputError for tensors of two shapes or devices.
    """
    if x.shape != image.shape or x.device != image.device:
        raise InputError(f"sqnr: x is {list(x.shape)} on {x.device}, its image {list(image.shape)} on {image.device}")
    signal, noise = _square(x), _square(image.double() - x.double())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def transform(x: torch.Tensor, size: int, seed: int = 0) -> torch.Tensor:
    """The random Hadamard transform that `quantize(x, .., hadamard=size, seed=seed)` makes first, in FP64: x S H / sqrt(size)
    on each run of `size` values of the last axis, which is padded with zeros to whole runs."""
    signs = torch.tensor(operators().hadamard_signs(size, seed), dtype=torch.float64, device=x.device)
    matrix = torch.ones(1, 1, dtype=torch.float64, device=x.device)
    while matrix.shape[0] < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    padded = torch.nn.functional.pad(x.double(), (0, -x.shape[-1] % size))
    runs = padded.unflatten(-1, (-1, size))
    return ((runs * signs) @ matrix / math.sqrt(size)).flatten(-2)


def analyze(model: torch.nn.Module, batch: Any, formats: Sequence[str] = ("e2m1", "e1m2", "nvfp4"), *, hadamard: int = 16,
            loss: Callable[[Any], torch.Tensor] | None = None, seed: int = 0) -> "pandas.DataFrame | Table":
    """Measures the operands of a model's linear layers under formats, without and with the transform, rounded to nearest.

    The model runs once, on `batch`: a tensor, a tuple of arguments or a mapping of keyword arguments. x and w of each
    layer are measured with blocks along its inputs (fprop) and, where `loss` makes a number of the model's result, dy with blocks
    along the outputs (dgrad) and dy and x with blocks along the tokens (wgrad).

    Gives a row for each layer, operand, format and transform (0: none): sqnr_db and the transform's gain_db; alpha, what
    is left of the signal, <Q, X> / <X, X>, and delta = 1 - alpha; nmse; rms, amax and crest = amax / rms of the operand.
    A pandas.DataFrame where pandas is installed, else a `Table`. `plots` draws it.

    Raises InputError for an unknown format and for a model without linear layers.
    """
    known = [entry.name for entry in all_formats()]
    for name in formats:
        if name not in known:
            raise InputError(f"analyze: unknown format {name!r}; there are {', '.join(known)}")
    layers = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    if not layers:
        raise InputError("analyze: the model has no torch.nn.Linear")
    captured = _run(model, layers, batch, loss)
    if not captured:
        raise InputError(f"analyze: no linear layer ran; there are {listed(layers)}")
    rows: list[dict[str, Any]] = []
    with torch.no_grad():
        for name, (x, dy) in captured.items():
            weight = layers[name].weight.detach()
            operands = {"fprop.x": x, "fprop.w": weight}
            if dy is not None:
                operands |= {"dgrad.dy": dy, "dgrad.w": weight.t(), "wgrad.dy": dy.t(), "wgrad.x": x.t()}
            for operand, matrix in operands.items():
                rows += _measure(name, operand, matrix.contiguous(), formats, hadamard, seed)
    try:
        import pandas
    except ImportError:
        return Table(rows)
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def plots(table: "pandas.DataFrame | Table") -> "dict[str, plotly.graph_objects.Figure]":
    """The report's figures of what `analyze` gave: "arrows", SQNR before and after the transform, and "gain", a map of what it gains.
    Layers that differ in the number of their block ("layers.3.", "blocks.3.", "h.3.") are one arrow, of their mean. Without a
    transform in the table there is nothing to draw.

    Raises InputError where plotly is not installed.
    """
    try:
        from ufp4 import analysis_figures
    except ImportError as error:
        raise InputError(f"plots needs plotly ({error}): pip install 'ufp4[report]'") from None
    from ufp4.measurements import Measured, Measurements

    rows = list(table) if isinstance(table, Table) else table.to_dict("records")
    matrices: dict[tuple[str, str], Measured] = {}
    for row in rows:
        key = row["layer"], row["operand"]
        matrix = matrices.setdefault(key, Measured(row["layer"], row["operand"], row["crest"], 1, []))
        matrix.schemes.append({**row, "sqnr_db": None if math.isinf(row["sqnr_db"]) else row["sqnr_db"],
                               "gain_db": None if row["gain_db"] is None or math.isnan(row["gain_db"]) else row["gain_db"]})
    measurements = Measurements("model", list(matrices.values()))
    names = measurements.format_names()
    figures = {"arrows": analysis_figures.arrows(measurements, names, analysis_figures.format_colours(names), most=len(matrices)),
               "gain": analysis_figures.gain_map(measurements, names[:4])}
    return {name: figure for name, figure in figures.items() if figure is not None}


def _square(x: torch.Tensor) -> float:
    return float(x.double().square().sum())


def _run(model: torch.nn.Module, layers: Mapping[str, torch.nn.Linear], batch: Any,
         loss: Callable[[Any], torch.Tensor] | None) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
    """x and dy of each layer that ran, as matrices; the last call of one that ran more often."""
    inputs: dict[str, torch.Tensor] = {}
    gradients: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, arguments: tuple[Any, ...], output: torch.Tensor) -> None:
            inputs[name] = _matrix(arguments[0])
            if loss is not None and output.requires_grad:
                output.register_hook(lambda gradient: gradients.__setitem__(name, _matrix(gradient)))

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    before = {name: parameter.grad for name, parameter in model.named_parameters()}
    try:
        with torch.set_grad_enabled(loss is not None):
            if isinstance(batch, Mapping):
                result = model(**batch)
            else:
                result = model(*batch) if isinstance(batch, tuple) else model(batch)
            if loss is not None:
                loss(result).backward()
    finally:
        for handle in handles:
            handle.remove()
        for name, parameter in model.named_parameters():
            parameter.grad = before[name]
    return {name: (inputs[name], gradients.get(name)) for name in layers if name in inputs}


def _matrix(x: torch.Tensor) -> torch.Tensor:
    return x.detach().reshape(-1, x.shape[-1]).bfloat16()


def _measure(layer: str, operand: str, matrix: torch.Tensor, formats: Sequence[str], hadamard: int, seed: int) -> list[dict[str, Any]]:
    values = matrix.bfloat16()
    amax, rms = float(values.abs().max()) if values.numel() else 0.0, math.sqrt(_square(values) / max(1, values.numel()))
    facts = {"rms": rms, "amax": amax, "crest": amax / rms if rms else 0.0}
    rows = []
    for name in formats:
        plain = None
        for size in (0, hadamard) if hadamard else (0,):
            image = quantize(values, name, hadamard=size, seed=seed).dequantize().double()
            exact = transform(values, size, seed) if size else values.double()
            image = image[:, :exact.shape[1]]
            signal, noise = _square(exact), _square(image - exact)
            found = sqnr(exact, image)
            plain = found if size == 0 else plain
            rows.append({"layer": layer, "operand": operand, "format": name, "hadamard": size, "sqnr_db": found,
                         "gain_db": found - plain if size and plain is not None and math.isfinite(found) and math.isfinite(plain) else None,
                         "alpha": float((image * exact).sum()) / signal if signal else 1.0,
                         "delta": 1 - float((image * exact).sum()) / signal if signal else 0.0,
                         "nmse": noise / signal if signal else 0.0, **facts})
    return rows


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else re.sub(r"\s+", " ", str(value))
