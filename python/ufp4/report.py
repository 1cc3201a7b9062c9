"""`python -m ufp4 report`: one self-contained HTML page from a run folder or a compare folder."""

import sys
import time
from pathlib import Path
from statistics import mean, median

from markupsafe import Markup

from ufp4 import InputError, figures
from ufp4.analysis_report import run_sections, write_document_report
from ufp4.checks import shown
from ufp4.measurements import read_run_analysis
from ufp4.page import Cell, details, figure_html, joined, page, pair, section, table, verdicts, write_page
from ufp4.runs import Experiment, Run, load
from ufp4.statistics import BASELINE, paired_percent, rows_of_runs, sem, verdict


def write_report(path: Path, out: Path, refresh: int = 0) -> Path:
    """Writes the page of a folder, or of a JSON document, and returns its path. Throws InputError for what cannot be read."""
    try:
        return _write(path, out, refresh)
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Each value by itself was what it must be: lists of different lengths, numbers whose squares overflow.
        raise InputError(f"{path}: what it holds cannot be drawn together: {type(error).__name__}: {shown(str(error))}") from error


def follow(path: Path, out: Path, seconds: int, wait=time.sleep) -> Path:
    """Writes the page again and again while the run goes on; the last one renews itself no more."""
    if not path.is_dir():
        raise InputError(f"--follow: '{path}' is no folder of a run")
    begun = False
    while not any((path / name).exists() for name in ("result.json", "compare.json")):
        try:
            write_report(path, out, seconds)
            if not begun:
                print(f"{out} renews itself each {seconds} s until the run is done", file=sys.stderr, flush=True)
            begun = True
        except InputError:
            if begun:
                raise
            if not (path / "config.toml").exists() and not (path / "runs").exists():
                raise
            # A run that has no finished step yet.
        wait(seconds)
    return write_report(path, out)


def _write(path: Path, out: Path, refresh: int) -> Path:
    if path.exists() and not path.is_dir():
        return write_document_report(path, out)
    experiment = load(path)
    if not any(run.steps for run in experiment.runs):
        where = experiment.runs[0].folder if len(experiment.runs) == 1 else path / "runs"
        raise InputError(f"{where}: no finished step in metrics.jsonl, there is nothing to report yet")
    return write_page(render(experiment, refresh), out)


def render(experiment: Experiment, refresh: int = 0) -> str:
    recipes = list(dict.fromkeys(run.recipe for run in experiment.runs))
    palette = figures.colours(recipes)
    summary = section("Summary", "Training loss is the mean over the last tenth of the steps. ± is one standard error across seeds; differences are "
                      "paired by seed.", _summary(experiment, recipes, palette))
    return page(experiment.folder.resolve().name, _lead(experiment, recipes), experiment.notes,
                summary + _sections(experiment, palette), _details(experiment), refresh)


# ---- text --------------------------------------------------------------------------------------------------------

def _count(number: float) -> str:
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{suffix}"
    return f"{number:g}"


def _products(experiment: Experiment) -> str:
    """What multiplied: once if it was the same for all, else with the recipes of each."""
    recipes: dict[str, list[str]] = {}
    for run in experiment.runs:
        named = recipes.setdefault(str(run.info.get("gemm", "?")), [])
        if run.recipe not in named:
            named.append(run.recipe)
    if len(recipes) == 1:
        return next(iter(recipes))
    return "; ".join(f"{gemm} ({', '.join(names)})" for gemm, names in recipes.items())


def _lead(experiment: Experiment, recipes: list[str]) -> list[tuple[str, str]]:
    info = experiment.runs[0].info
    model = info.get("model") if isinstance(info.get("model"), dict) else {}
    parameters = model.get("parameters")
    steps = max((max(run.steps, default=0) for run in experiment.runs), default=0)
    tokens = max((v for run in experiment.runs for v in run.series("tokens")[1]), default=0)
    seeds = len({run.seed for run in experiment.runs})
    facts = [
        ("model", f"{model.get('name', '?')}" + (f", {_count(parameters)} parameters" if isinstance(parameters, (int, float)) else "")),
        ("recipes", ", ".join(recipes)),
        ("seeds", str(seeds)),
        ("steps", f"{steps:,} ({_count(tokens)} tokens)"),
        ("device", str(info.get("device", "?"))),
        ("products", _products(experiment)),
    ]
    return facts


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")


def _number(value: float | None, error: float | None = None, form: str = ".4f") -> Cell:
    if value is None:
        return Cell("–")
    return Cell(f"{value:{form}}", f"± {error:{form.lstrip('+')}}" if error is not None else "")


def _summary(experiment: Experiment, recipes: list[str], palette: dict) -> Markup:
    rows = rows_of_runs(experiment)
    given = {row["recipe"]: row for row in (experiment.comparison or {}).get("summary", [])}
    body = []
    for recipe in recipes:
        own = [row for row in rows if row["recipe"] == recipe]

        def column(key, own=own):
            return [row[key] for row in own if row.get(key) is not None]

        train, val, rate = column("train_loss"), column("val_loss"), column("tokens_per_s")
        percent = paired_percent(rows, recipe, BASELINE)
        row = given.get(recipe, {})
        val_mean = row.get("val_loss_mean", mean(val) if val else None)
        val_sem = row.get("val_loss_sem", sem(val))
        change = row.get("degradation_percent_mean", mean(percent) if percent else None)
        change_sem = row.get("degradation_percent_sem", sem(percent))
        skipped = sum(len(run.skipped) for run in experiment.runs if run.recipe == recipe)
        body.append([
            Cell(recipe, f"({skipped} steps skipped)" if skipped else "", palette[recipe]),
            str(len(own)), _number(mean(train) if train else None, sem(train)), _number(val_mean, val_sem),
            "baseline" if recipe == BASELINE else _number(change, change_sem, "+.3f"),
            f"{mean(rate):,.0f}" if rate else "–",
        ])
    head = ["recipe", "seeds", "training loss", "validation loss", "against bf16, %", "tokens/s"]
    return joined([table([head], body), _verdicts(rows, recipes)])


def _verdicts(rows: list[dict], recipes: list[str]) -> Markup:
    items = []
    for i, recipe in enumerate(recipes):
        for other in recipes[:i]:
            percent = paired_percent(rows, recipe, other)
            if percent:
                items.append({"recipe": recipe, "other": other, "change": _signed(mean(percent)), "verdict": verdict(percent)})
    return verdicts(items)


# ---- figures -----------------------------------------------------------------------------------------------------

def _entropy(run: Run) -> float | None:
    rate = run.info.get("entropy_rate")
    return float(rate) if isinstance(rate, (int, float)) and not isinstance(rate, bool) else None


def _sections(experiment: Experiment, palette: dict) -> Markup:
    parts = []
    figure = figures.loss_curves(experiment, palette)
    if figure:
        dashes = " Seeds differ by the dash of the line." if len({run.seed for run in experiment.runs}) > 1 else ""
        parts.append(section("Training loss", "A running mean over the last twentieth of the steps (200 at most), or each "
                              "step as it was." + dashes, figure_html("loss", figure, True)))
    figure = figures.degradation(experiment, palette)
    if figure:
        parts.append(section("Degradation against bf16", Markup("(L − L<sub>bf16</sub>) / L<sub>bf16</sub> of the smoothed losses, "
                              "paired by seed: the same data in the same order from the same weights. The band is one standard "
                              "error across seeds."), figure_html("degradation", figure)))
    figure = figures.loss_curves(experiment, palette, _entropy)
    if figure:
        parts.append(section("Excess over the entropy rate", "The data's generator knows its own entropy: no model can "
                              "stay below zero here for long.", figure_html("excess", figure, True)))
    figure = figures.validation(experiment, palette)
    if figure:
        parts.append(section("Validation loss", "On held-out text.", figure_html("validation", figure)))
    bars = []
    for key, title, scale, reduce, digits in (
        ("tokens_per_s", "tokens a second, median of the steps", 1, median, 0),
        ("memory_bytes", "peak memory, MiB", 1 / 2**20, max, 0),
    ):
        figure = figures.bars(experiment, palette, key, title, scale, reduce, digits)
        if figure:
            bars.append(figure_html(key, figure))
    if bars:
        parts.append(section("Throughput and memory", "As this machine ran it, quantization emulated where it says so above.",
                             pair(bars)))
    for run in experiment.runs:
        measured = run.folder / "analysis.jsonl"
        if len(experiment.runs) == 1 and measured.exists():
            parts.append(run_sections(read_run_analysis(measured)))
    return joined(parts)


def _details(experiment: Experiment) -> Markup:
    """What all runs share, and what differs, from run.json."""
    flat = [_flatten(run.info) for run in experiment.runs]
    keys = list(dict.fromkeys(key for entry in flat for key in entry))
    shared, differing = [], []
    for key in keys:
        values = [entry.get(key) for entry in flat]
        (shared if all(value == values[0] for value in values) else differing).append(key)

    def rows(chosen, entry):
        return [(key, entry[key]) for key in chosen if key in entry]

    parts = [details("Configuration and versions", rows(shared, flat[0]))]
    for run, entry in zip(experiment.runs, flat, strict=True):
        if differing and len(flat) > 1:
            parts.append(details(f"Of {run.folder.name} alone", rows(differing, entry)))
    return joined(parts)


def _flatten(value, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {prefix: value}
    result = {}
    for key, inner in value.items():
        result |= _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return result
