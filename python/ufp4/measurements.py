"""Reads what `ufp4 analyze --json`, `ufp4 formats --json` and `ufp4 train --analyze-every` write."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from ufp4 import InputError
from ufp4.runs import read_json

GEMM_OPERANDS = ("fprop.x", "fprop.w", "dgrad.dy", "dgrad.w", "wgrad.dy", "wgrad.x")


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
        return re.sub(r"(^|\.)layers?\.\d+\.", "", re.sub(r"^model\.", "", self.name)) + (f" {self.operand}" if self.operand else "")

    def scheme(self, format_name: str, transformed: bool) -> dict | None:
        """To nearest; the recipe's own stochastic scheme is another thing."""
        for scheme in self.schemes:
            if (scheme["format"] == format_name and bool(scheme["hadamard"]) == transformed
                    and scheme.get("rounding", "rtne") == "rtne"):
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
    lines = path.read_bytes().split(b"\n")[:-1]
    formats: dict[str, dict] = {}
    by_step: dict[int, Measurements] = {}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if "formats" in record:
                formats |= {f["name"]: f for f in record["formats"]}
                continue
            own = by_step.setdefault(record["step"], Measurements(str(path), [], formats, record["step"]))
            operand = f"{record['gemm']}.{record['operand']}"
            own.matrices.append(_measured(record, record["linear"], operand))
            _note_nonfinite(own, record, f"step {record['step']}, {record['linear']} {operand}")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not a line of measurements: {error!r}") from error
    return [by_step[step] for step in sorted(by_step)]


def read_document(path: Path) -> dict:
    """A JSON document of the program, with its kind."""
    document = read_json(path)
    known = ("tensors", "operands", "chain", "grid", "sweep")
    if document.get("kind") not in known:
        raise InputError(
            f"{path}: key 'kind' is {document.get('kind')!r}, expected one of {', '.join(known)}: "
            "the output of 'ufp4 analyze --json' or 'ufp4 formats --levels/--sweep --json'"
        )
    return document
