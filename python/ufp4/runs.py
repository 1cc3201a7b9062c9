"""Reads what `ufp4 train` and `ufp4 compare` write: run.json, metrics.jsonl, compare.json."""

import json
import math
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ufp4 import InputError
from ufp4.checks import NUMBER, TEXT, WHOLE, check, maybe, shown

# Files of a run are pages of text, its metrics a few hundred bytes a step.
_MOST_BYTES = 1 << 30
_MOST_LEVELS = 32
_COMPARISON = {
    "runs": [{"recipe": TEXT, "seed": WHOLE, "train_loss?": maybe(NUMBER), "val_loss?": maybe(NUMBER), "tokens_per_s?": maybe(NUMBER)}],
    "summary": [{"recipe": TEXT, "val_loss_mean?": maybe(NUMBER), "val_loss_sem?": maybe(NUMBER),
                 "degradation_percent_mean?": maybe(NUMBER), "degradation_percent_sem?": maybe(NUMBER)}],
}
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
        experiment.comparison = read_json(path)
        check(experiment.comparison, _COMPARISON, path)
        order = {row["recipe"]: i for i, row in enumerate(experiment.comparison["summary"])}
    else:
        experiment.notes.append("No compare.json yet: the comparison was interrupted. The table is of what has run.")
    experiment.runs.sort(key=lambda run: (order.get(run.recipe, len(order)), run.recipe, run.seed))
    return experiment


def read_run(folder: Path) -> Run:
    info = read_json(folder / "run.json")
    recipe = info.get("recipe")
    name = recipe.get("name") if isinstance(recipe, dict) else recipe
    if not isinstance(name, str):
        raise InputError(f"{folder / 'run.json'}: key 'recipe' has no name")
    check(info, {"seed?": WHOLE, "entropy_rate?": maybe(NUMBER)}, folder / "run.json")
    seed = info.get("seed", 0)
    # The folder's seed is the place among the comparison's seeds.
    match = re.search(r"-seed(\d{1,18})$", folder.name)
    run = Run(folder, name, int(match.group(1)) if match else seed, info)
    _read_metrics(folder / "metrics.jsonl", run)
    return run


def _read_metrics(path: Path, run: Run) -> None:
    if not path.exists():
        run.notes.append("no metrics.jsonl yet, no step was finished.")
        return
    lines = read_bytes(path).split(b"\n")
    complete = lines.pop()  # what follows the last newline: nothing, or a line whose writing was interrupted
    if complete.strip():
        run.notes.append(f"the last line of metrics.jsonl (line {len(lines) + 1}) was cut and is left out.")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _add_record(run, parse_json(line))
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
    if not run.steps:
        run.notes.append("no step in metrics.jsonl yet.")


def _add_record(run: Run, record) -> None:
    """A step that comes twice was run again after a resume: the later line counts."""
    step = record.get("step") if isinstance(record, dict) else None
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 1 << 53:
        raise ValueError("expected a JSON object with a whole number 'step'")
    if "val_loss" in record:
        if _is_finite(record["val_loss"]):
            run.validation[step] = float(record["val_loss"])
    elif record.get("skipped"):
        run.skipped[step] = shown(record["skipped"])
        run.steps.pop(step, None)
    elif "loss" in record:
        run.steps[step] = {key: float(record[key]) for key in STEP_KEYS if _is_finite(record.get(key))}
    else:
        raise ValueError("expected one of the keys 'loss', 'val_loss', 'skipped'")


def _is_finite(value) -> bool:
    if value is None:
        return False
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not a number")
    return math.isfinite(value)


def read_bytes(path: Path) -> bytes:
    """Of a regular file: a pipe would wait for ever, a device may have no end."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: is not a regular file")
        if status.st_size > _MOST_BYTES:
            raise InputError(f"{path}: has {status.st_size} bytes, more than the {_MOST_BYTES} that such a file may have")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def parse_json(text: bytes):
    """ValueError for what is no JSON, or is nested too deep."""
    try:
        # A whole number of any length is read as a number; Python's own of more than 4300 digits are refused.
        return json.loads(text.decode(), parse_int=lambda digits: int(digits) if len(digits) < 20 else float(digits))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error.reason} at byte {error.start})") from error
    except RecursionError:
        raise ValueError("objects and lists are nested too deep") from None


def read_json(path: Path) -> dict:
    try:
        value = parse_json(read_bytes(path))
    except InputError:
        raise
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [item for outer in level for item in (outer.values() if isinstance(outer, dict) else outer) if isinstance(item, (dict, list))]
    if level:
        raise InputError(f"{path}: objects and lists are nested more than {_MOST_LEVELS} deep")
    return value
