"""Reads what `ufp4 analyze --json`, `ufp4 formats --json` and `ufp4 train --analyze-every` write."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from ufp4 import InputError
from ufp4.checks import NUMBER, TEXT, WHOLE, check, maybe, shown
from ufp4.runs import parse_json, read_bytes, read_json

GEMM_OPERANDS = ("fprop.x", "fprop.w", "dgrad.dy", "dgrad.w", "wgrad.dy", "wgrad.x")

# The documents of the program, as far as they are drawn.
_EXPECTED = {"name": TEXT, "levels": [NUMBER], "eq2_bias": [NUMBER], "normal_share?": maybe([NUMBER]), "normal_mean_error?": maybe([NUMBER])}
_SCHEME = {"format": TEXT, "hadamard": WHOLE, "rounding?": TEXT, "outer?": TEXT, "own_outer?": TEXT, "tau?": NUMBER, "sqnr_db": maybe(NUMBER), "bucket_ratio": maybe(NUMBER), "gain_db?": maybe(NUMBER),
           "level_share?": maybe([NUMBER]), "level_mean_error?": maybe([NUMBER])}
_MATRIX = {"shape": [WHOLE], "nonfinite?": WHOLE, "crest": NUMBER, "schemes": [_SCHEME]}
_OPERAND = {"linear": TEXT, "gemm": TEXT, "operand": TEXT, **_MATRIX}
_MEASURED = {"source?": TEXT, "formats?": [_EXPECTED], "tensors?": [{"name": TEXT, **_MATRIX}], "operands?": [_OPERAND], "skipped?": [TEXT]}
_AGREEMENT = {"alpha": maybe(NUMBER), "cosine": maybe(NUMBER)}
_GEMM = {"eta": maybe(NUMBER), "eta_product": maybe(NUMBER), "coherence": maybe(NUMBER), "alone": _AGREEMENT}
_GEMMS = ("fprop", "dgrad", "wgrad")
_CHAIN = {"source?": TEXT, "step": WHOLE, "tokens": WHOLE, "loss_bf16": NUMBER, "recipes": [{
    "name": TEXT, "loss": NUMBER, "hadamard": {gemm: WHOLE for gemm in _GEMMS},
    "linears": [{"linear": TEXT, **{gemm: _GEMM for gemm in _GEMMS}}],
    "stream": [{"linear": TEXT, "forward": _AGREEMENT, "gradient": _AGREEMENT}]}]}
_FIGURES = {"sqnr_db": maybe(NUMBER), "alpha?": maybe(NUMBER), "delta?": maybe(NUMBER), "bucket_ratio?": maybe(NUMBER), "level_mean_error?": [NUMBER]}
_GRID = {"source?": TEXT, "grid?": TEXT, "levels": [NUMBER], "block": WHOLE, "bins": [{"level": NUMBER, "eq2_bias": NUMBER}],
         "expected": {...: _FIGURES}, "after_transform?": {"measured?": {...: _FIGURES}}}
_SWEEP = {"source?": TEXT, "level_count": WHOLE, "largest": WHOLE, "block": WHOLE, "ranked_by?": TEXT, "distributions": {...: {
    "grids": WHOLE, "uniform": _FIGURES, "uniform_after_transform?": maybe(_FIGURES),
    "ranked": [{"rank": WHOLE, "levels": [NUMBER], "format": TEXT, "figures": _FIGURES, "after_transform?": maybe(_FIGURES)}]}}}
_DOCUMENTS = {"tensors": _MEASURED, "operands": _MEASURED, "chain": _CHAIN, "grid": _GRID, "sweep": _SWEEP}


@dataclass
class Measured:
    """One matrix: a tensor of a file, or an operand of a linear."""

    name: str
    operand: str  # "fprop.x"; empty for tensors
    crest: float
    size: int
    schemes: list[dict]

    @property
    def kind(self) -> str:
        """The name without its numbers: one kind for all layers."""
        return re.sub(r"(^|\.)(?:layers?|blocks?|h)\.\d+\.", r"\1", re.sub(r"^model\.", "", self.name)) + (f" {self.operand}" if self.operand else "")

    def scheme(self, format_name: str, transformed: bool) -> dict | None:
        """To nearest, with the second-level scales that the format itself has; a recipe's other choices are another thing."""
        for scheme in self.schemes:
            if (scheme["format"] == format_name and bool(scheme["hadamard"]) == transformed
                    and scheme.get("rounding", "rtne") == "rtne" and scheme.get("outer", "tensor") == scheme.get("own_outer", "tensor")
                    and scheme.get("tau", 1.125) == 1.125):
                return scheme
        return None


@dataclass
class Measurements:
    source: str
    matrices: list[Measured]
    formats: dict[str, dict] = field(default_factory=dict)  # what is expected of the bins, by format
    step: int | None = None
    steps: list[int] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    nonfinite: list[str] = field(default_factory=list)

    def format_names(self) -> list[str]:
        return list(dict.fromkeys(s["format"] for m in self.matrices for s in m.schemes))


def _measured(record: dict, name: str, operand: str) -> Measured:
    if len(record["shape"]) != 2:
        raise InputError(f"{name}: the shape has {len(record['shape'])} dimensions, expected 2")
    rows, columns = record["shape"]
    return Measured(name, operand, record["crest"], rows * columns, record["schemes"])


def _note_nonfinite(measurements: Measurements, record: dict, name: str) -> None:
    if record.get("nonfinite"):
        measurements.nonfinite.append(f"{name}: {record['nonfinite']} values are NaN or infinite, measured as if they were not there.")


def measurements_of(document: dict) -> Measurements:
    """From a document of kind "tensors" or "operands"."""
    result = Measurements(document.get("source", ""), [], {f["name"]: f for f in document.get("formats", [])})
    for record in document.get("tensors", []):
        result.matrices.append(_measured(record, record["name"], ""))
        _note_nonfinite(result, record, record["name"])
    for record in document.get("operands", []):
        operand = f"{record['gemm']}.{record['operand']}"
        result.matrices.append(_measured(record, record["linear"], operand))
        _note_nonfinite(result, record, f"{record['linear']} {operand}")
    result.skipped = document.get("skipped", [])
    return result


def read_run_analysis(path: Path) -> list[Measurements]:
    """The measurements of a run's analysis.jsonl, one a step. A last line that was cut is left out."""
    lines = read_bytes(path).split(b"\n")[:-1]
    formats: dict[str, dict] = {}
    by_step: dict[int, Measurements] = {}
    for number, line in enumerate(lines, 1):
        try:
            record = parse_json(line)
            check(record, {"step": WHOLE, "formats": [_EXPECTED]} if "formats" in record else {"step": WHOLE, **_OPERAND}, f"{path}, line {number}: it")
            if "formats" in record:
                formats |= {f["name"]: f for f in record["formats"]}
                continue
            own = by_step.setdefault(record["step"], Measurements(str(path), [], formats, record["step"]))
            operand = f"{record['gemm']}.{record['operand']}"
            own.matrices.append(_measured(record, record["linear"], operand))
            _note_nonfinite(own, record, f"step {record['step']}, {record['linear']} {operand}")
        except InputError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not a line of measurements: {shown(error)}") from error
    return [by_step[step] for step in sorted(by_step)]


def read_document(path: Path) -> dict:
    """A JSON document of the program, with its kind."""
    document = read_json(path)
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in _DOCUMENTS:
        raise InputError(
            f"{path}: key 'kind' is {shown(kind)}, expected one of {', '.join(_DOCUMENTS)}: "
            "the output of 'ufp4 analyze --json' or 'ufp4 formats --levels/--sweep --json'"
        )
    check(document, _DOCUMENTS[kind], path)
    return document
