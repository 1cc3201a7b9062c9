"""The numbers of the summary: means with standard errors, paired differences, running means."""

import math
from statistics import mean, stdev

from ufp4.runs import Experiment, Run

BASELINE = "bf16"
# Student's t, 97.5 %, for 1, 2, .. degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def sem(values: list[float]) -> float | None:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def half_width(values: list[float]) -> float | None:
    """Half of the 95 % confidence interval of the mean."""
    error = sem(values)
    if error is None:
        return None
    freedom = len(values) - 1
    return error * (_T[freedom - 1] if freedom <= len(_T) else 1.96 + 2.5 / freedom)


def train_loss(run: Run) -> float | None:
    """The mean over the last tenth of the steps."""
    _, losses = run.series("loss")
    return mean(losses[-max(1, len(losses) // 10):]) if losses else None


def rows_of_runs(experiment: Experiment) -> list[dict]:
    """As compare.json's runs: from it, or from the metrics where there is none yet."""
    if experiment.comparison:
        return experiment.comparison["runs"]
    rows = []
    for run in experiment.runs:
        last = max(run.steps, default=0)
        rates = run.series("tokens_per_s")[1]
        rows.append(
            {
                "recipe": run.recipe,
                "seed": run.seed,
                "steps": last,
                "tokens": run.steps.get(last, {}).get("tokens"),
                "train_loss": train_loss(run),
                "val_loss": run.validation[max(run.validation)] if run.validation else None,
                "tokens_per_s": mean(rates) if rates else None,
            }
        )
    return rows


def paired_percent(rows: list[dict], recipe: str, other: str) -> list[float]:
    """(train_loss of recipe / that of other - 1) in percent, for each seed that both have."""
    losses = {}
    for row in rows:
        if row.get("train_loss") is not None:
            losses[row["recipe"], row["seed"]] = row["train_loss"]
    seeds = sorted(seed for name, seed in losses if name == recipe and (other, seed) in losses)
    return [100 * (losses[recipe, s] / losses[other, s] - 1) for s in seeds if losses[other, s] != 0]


def verdict(percent: list[float]) -> str:
    half = half_width(percent)
    if half is None:
        return "uncertainty unknown (one seed)"
    word = "beyond" if abs(mean(percent)) > half else "within"
    return f"{word} its uncertainty (95 %: ± {half:.3f} %, paired by {len(percent)} seeds)"


def running_mean(values: list[float], window: int) -> list[float]:
    """The mean of the last `window` values up to each one."""
    result, total = [], 0.0
    for i, value in enumerate(values):
        total += value
        if i >= window:
            total -= values[i - window]
        result.append(total / min(i + 1, window))
    return result


def window_of(count: int) -> int:
    return max(1, min(200, count // 20))
