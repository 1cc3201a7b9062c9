"""Reads what `ufp4 train` and `ufp4 compare` write: run.json, metrics.jsonl, compare.json."""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from ufp4 import InputError

STEP_KEYS = ("loss", "grad_norm", "lr", "tokens", "tokens_per_s", "tflops", "memory_bytes")


@dataclass
class Run:
    """One training run. `steps` holds the numbers of a step by key; what was not finite is missing."""

    folder: Path
    recipe: str
    seed: int
    info: dict  # run.json
    steps: dict[int, dict[str, float]] = field(default_factory=dict)
    validation: dict[int, float] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def series(self, key: str) -> tuple[list[int], list[float]]:
        steps = [step for step in sorted(self.steps) if key in self.steps[step]]
        return steps, [self.steps[step][key] for step in steps]


@dataclass
class Experiment:
    """A run folder (one run) or a compare folder."""

    folder: Path
    runs: list[Run]
    comparison: dict | None = None  # compare.json
    notes: list[str] = field(default_factory=list)


def load(folder: Path) -> Experiment:
    """Throws InputError that names the file, and the line where there is one."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected the --out folder of ufp4 train or ufp4 compare")
    if (folder / "runs").is_dir() or (folder / "compare.json").exists():
        return _load_comparison(folder)
    if not (folder / "run.json").exists() and not (folder / "metrics.jsonl").exists():
        raise InputError(f"{folder}: neither a run folder (run.json) nor a compare folder (compare.json, runs/)")
    run = read_run(folder)
    return Experiment(folder, [run], notes=run.notes)


def _load_comparison(folder: Path) -> Experiment:
    experiment = Experiment(folder, [])
    for path in sorted((folder / "runs").glob("*")):
        if not path.is_dir():
            continue
        if not (path / "run.json").exists():
            experiment.notes.append(f"{path.name} has not begun: it has no run.json.")
            continue
        experiment.runs.append(read_run(path))
    for run in experiment.runs:
        experiment.notes += [f"{run.folder.name}: {note}" for note in run.notes]
    if not experiment.runs:
        raise InputError(f"{folder / 'runs'}: no run in it; expected folders like ufp4-seed0 with a run.json")
    order = {}
    path = folder / "compare.json"
    if path.exists():
        experiment.comparison = _check_comparison(path, read_json(path))
        order = {row["recipe"]: i for i, row in enumerate(experiment.comparison["summary"])}
    else:
        experiment.notes.append("No compare.json yet: the comparison was interrupted. The table is of what has run.")
    experiment.runs.sort(key=lambda run: (order.get(run.recipe, len(order)), run.recipe, run.seed))
    return experiment


def _check_comparison(path: Path, comparison: dict) -> dict:
    for key, needed in (("runs", ("recipe", "seed")), ("summary", ("recipe",))):
        rows = comparison.get(key)
        if not isinstance(rows, list):
            raise InputError(f"{path}: key '{key}' is missing or no list")
        for i, row in enumerate(rows):
            for name in needed:
                if not isinstance(row, dict) or name not in row:
                    raise InputError(f"{path}: {key}[{i}] has no '{name}'")
    return comparison


def read_run(folder: Path) -> Run:
    info = read_json(folder / "run.json")
    recipe = info.get("recipe")
    name = recipe.get("name") if isinstance(recipe, dict) else recipe
    if not isinstance(name, str):
        raise InputError(f"{folder / 'run.json'}: key 'recipe' has no name")
    seed = info.get("seed", 0)
    if not isinstance(seed, int):
        raise InputError(f"{folder / 'run.json'}: key 'seed' is {seed!r}, expected a whole number")
    # The folder's seed is the place among the comparison's seeds.
    match = re.search(r"-seed(\d+)$", folder.name)
    run = Run(folder, name, int(match.group(1)) if match else seed, info)
    _read_metrics(folder / "metrics.jsonl", run)
    return run


def _read_metrics(path: Path, run: Run) -> None:
    if not path.exists():
        run.notes.append("no metrics.jsonl yet, no step was finished.")
        return
    lines = _read_bytes(path).split(b"\n")
    complete = lines.pop()  # what follows the last newline: nothing, or a line whose writing was interrupted
    if complete.strip():
        run.notes.append(f"the last line of metrics.jsonl (line {len(lines) + 1}) was cut and is left out.")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _add_record(run, json.loads(line))
        except (ValueError, UnicodeDecodeError) as error:
            raise InputError(f"{path}, line {number}: {error}") from error
    if not run.steps:
        run.notes.append("no step in metrics.jsonl yet.")


def _add_record(run: Run, record) -> None:
    """A step that comes twice was run again after a resume: the later line counts."""
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise ValueError("expected a JSON object with a whole number 'step'")
    step = record["step"]
    if "val_loss" in record:
        if _is_finite(record["val_loss"]):
            run.validation[step] = float(record["val_loss"])
    elif record.get("skipped"):
        run.skipped[step] = str(record["skipped"])
        run.steps.pop(step, None)
    elif "loss" in record:
        run.steps[step] = {key: float(record[key]) for key in STEP_KEYS if _is_finite(record.get(key))}
    else:
        raise ValueError("expected one of the keys 'loss', 'val_loss', 'skipped'")


def _is_finite(value) -> bool:
    if value is None:
        return False
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    return math.isfinite(value)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def read_json(path: Path) -> dict:
    try:
        value = json.loads(_read_bytes(path).decode())
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value
