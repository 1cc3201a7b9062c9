"""The plotly figures of the report. Colours belong to recipes, dashes to seeds."""

from statistics import mean

import plotly.graph_objects as go

from ufp4.runs import Experiment, Run
from ufp4.statistics import BASELINE, running_mean, sem, window_of

# Okabe and Ito's palette: distinct for colour-blind readers.
_KNOWN = {"bf16": "#3b3b3b", "e2m1": "#d55e00", "ufp4": "#0072b2", "ufp4_full": "#009e73"}
_OTHERS = ("#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7b5ea7", "#a3a300")
_DASHES = ("solid", "dot", "dash", "dashdot", "longdash")
_MOST_POINTS = 1500


def colours(recipes: list[str]) -> dict[str, str]:
    others = sorted(set(recipes) - set(_KNOWN))
    return {name: _KNOWN.get(name) or _OTHERS[others.index(name) % len(_OTHERS)] for name in recipes}


def _translucent(colour: str, alpha: float) -> str:
    return f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},{alpha})"


def _thin(x: list, y: list) -> tuple[list, list]:
    """At most _MOST_POINTS points, the last one among them."""
    stride = -(-len(x) // _MOST_POINTS) if x else 1
    start = (len(x) - 1) % stride if x else 0
    return x[start::stride], y[start::stride]


def _layout(figure: go.Figure, y_title: str, x_title: str = "step", height: int = 380) -> go.Figure:
    axis = {"gridcolor": "#e7e5df", "zeroline": False, "linecolor": "#c9c6bd", "ticks": "outside", "tickcolor": "#c9c6bd",
            "automargin": True}
    figure.update_layout(
        template="none", height=height, margin={"l": 10, "r": 12, "t": 10, "b": 10},
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", "size": 13, "color": "#2b2a27"},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hovermode="closest",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#b5b2a9", "activecolor": "#0072b2", "remove": ["select2d", "lasso2d"]},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        xaxis={**axis, "title": {"text": x_title, "standoff": 8}},
        yaxis={**axis, "title": {"text": y_title, "standoff": 8}},
    )
    return figure


def _line(run: Run, x: list, y: list, palette: dict, first: bool, meta: str | None = None, **options) -> go.Scatter:
    seeds = options.pop("seeds")
    return go.Scatter(
        x=x, y=y, mode=options.pop("mode", "lines"), name=run.recipe, legendgroup=run.recipe, showlegend=first, meta=meta,
        line={"color": palette[run.recipe], "width": options.pop("width", 1.8), "dash": _DASHES[seeds.index(run.seed) % len(_DASHES)]},
        hovertemplate=f"{run.recipe}{f', seed {run.seed}' if len(seeds) > 1 else ''}<br>step %{{x}}<br>%{{y:.4f}}<extra></extra>", **options,
    )


def _seeds(experiment: Experiment) -> list[int]:
    return sorted({run.seed for run in experiment.runs})


def loss_curves(experiment: Experiment, palette: dict, offset_of=None) -> go.Figure | None:
    """Losses, each curve raw and smoothed. `offset_of` gives what is subtracted from a run's losses; None leaves it out."""
    figure, seen = go.Figure(), set()
    shown = []
    for run in experiment.runs:
        steps, losses = run.series("loss")
        offset = offset_of(run) if offset_of else 0.0
        if not steps or offset is None:
            continue
        losses = [loss - offset for loss in losses]
        smooth = running_mean(losses, window_of(len(losses)))
        first = run.recipe not in seen
        seen.add(run.recipe)
        seeds = _seeds(experiment)
        raw = _line(run, *_thin(steps, losses), palette, first, "raw", width=0.9, visible=False, opacity=0.75, seeds=seeds)
        figure.add_trace(raw)
        figure.add_trace(_line(run, *_thin(steps, smooth), palette, first, "smooth", seeds=seeds))
        shown += smooth[len(smooth) // 20:]
    if not shown:
        return None
    _layout(figure, "excess, nats a token" if offset_of else "training loss, nats a token")
    low, high = min(shown), max(shown)
    figure.update_yaxes(range=[low - 0.05 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3])
    return figure


def _paired_curves(experiment: Experiment) -> dict[str, dict[int, dict[int, float]]]:
    """recipe -> seed -> step -> percent against the baseline's running mean at the same step and seed."""
    smooth: dict[tuple[str, int], dict[int, float]] = {}
    for run in experiment.runs:
        steps, losses = run.series("loss")
        if steps:
            smooth[run.recipe, run.seed] = dict(zip(steps, running_mean(losses, window_of(len(losses))), strict=True))
    result: dict[str, dict[int, dict[int, float]]] = {}
    for (recipe, seed), curve in smooth.items():
        base = smooth.get((BASELINE, seed))
        if recipe == BASELINE or not base:
            continue
        percent = {s: 100 * (loss / base[s] - 1) for s, loss in curve.items() if base.get(s)}
        if percent:
            result.setdefault(recipe, {})[seed] = percent
    return result


def degradation(experiment: Experiment, palette: dict) -> go.Figure | None:
    """Relative degradation of the smoothed loss: the mean over seeds, a band of one standard error, each seed thin."""
    curves = _paired_curves(experiment)
    if not curves:
        return None
    figure = go.Figure()
    shown = [0.0]
    for recipe, seeds in curves.items():
        steps = sorted(set.intersection(*(set(c) for c in seeds.values())))
        if not steps:
            continue
        steps = steps[len(steps) // 50:]  # the first losses differ by noise alone
        steps, _ = _thin(steps, steps)
        values = [[c[s] for c in seeds.values()] for s in steps]
        means = [mean(v) for v in values]
        errors = [sem(v) or 0.0 for v in values]
        colour = palette[recipe]
        if len(seeds) > 1:
            upper = [m + e for m, e in zip(means, errors, strict=True)]
            lower = [m - e for m, e in zip(means, errors, strict=True)]
            figure.add_trace(go.Scatter(x=steps + steps[::-1], y=upper + lower[::-1], fill="toself", mode="lines",
                                        fillcolor=_translucent(colour, 0.16), line={"width": 0}, hoverinfo="skip",
                                        legendgroup=recipe, showlegend=False))
            for curve in seeds.values():
                figure.add_trace(go.Scatter(x=steps, y=[curve[s] for s in steps], mode="lines", hoverinfo="skip",
                                            line={"color": _translucent(colour, 0.35), "width": 0.8},
                                            legendgroup=recipe, showlegend=False))
        figure.add_trace(go.Scatter(x=steps, y=means, mode="lines", name=recipe, legendgroup=recipe,
                                    line={"color": colour, "width": 2.2}, customdata=errors,
                                    hovertemplate=f"{recipe}<br>step %{{x}}<br>%{{y:+.3f}} %"
                                    + (" ± %{customdata:.3f}" if len(seeds) > 1 else "") + "<extra></extra>"))
        shown += [v for row in values[len(values) // 10:] for v in row]
    _layout(figure, "loss against bf16, %")
    figure.add_hline(y=0, line={"color": palette.get(BASELINE, _KNOWN[BASELINE]), "width": 1.2, "dash": "dot"})
    low, high = min(shown), max(shown)
    margin = 0.08 * (high - low) + 1e-3
    figure.update_yaxes(range=[low - margin, high + margin], ticksuffix=" %")
    figure.update_layout(showlegend=True)
    return figure


def validation(experiment: Experiment, palette: dict) -> go.Figure | None:
    figure, seen = go.Figure(), set()
    for run in experiment.runs:
        if not run.validation:
            continue
        steps = sorted(run.validation)
        first = run.recipe not in seen
        seen.add(run.recipe)
        figure.add_trace(_line(run, steps, [run.validation[s] for s in steps], palette, first, mode="lines+markers",
                               seeds=_seeds(experiment)))
    if not figure.data:
        return None
    figure.update_layout(showlegend=True)
    return _layout(figure, "validation loss, nats a token")


def bars(experiment: Experiment, palette: dict, key: str, title: str, scale: float, reduce, digits: int) -> go.Figure | None:
    """One bar a recipe: the mean over seeds of reduce(values of key), with the seeds' standard error."""
    values: dict[str, list[float]] = {}
    for run in experiment.runs:
        series = run.series(key)[1]
        if series:
            values.setdefault(run.recipe, []).append(reduce(series) * scale)
    if not values:
        return None
    names = list(values)
    heights = [mean(v) for v in values.values()]
    figure = go.Figure(
        go.Bar(
            x=heights, y=names, orientation="h", marker={"color": [palette[n] for n in names]}, width=0.62,
            text=[f"{h:,.{digits}f}" for h in heights], textposition="auto", insidetextanchor="end",
            error_x={"array": [sem(v) or 0.0 for v in values.values()], "color": "#2b2a27", "thickness": 1.2, "width": 4}
            if any(len(v) > 1 for v in values.values()) else None,
            hovertemplate="%{y}: %{x:,.2f}<extra></extra>",
        )
    )
    _layout(figure, "", title, height=92 + 44 * len(names))
    figure.update_layout(showlegend=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, title=None, type="category")
    figure.update_xaxes(rangemode="tozero")
    return figure
