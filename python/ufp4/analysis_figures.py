"""The plotly figures of measurements: bins and errors, maps, arrows, the chain, grids. Colours belong to formats."""

from statistics import mean

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ufp4.figures import _layout
from ufp4.measurements import GEMM_OPERANDS, Measured, Measurements

# Okabe and Ito's palette: distinct for colour-blind readers.
_KNOWN = {"e2m1": "#d55e00", "e1m2": "#0072b2", "int4_full": "#009e73", "nvfp4": "#e69f00", "mxfp4": "#cc79a7"}
_OTHERS = ("#56b4e9", "#8c6d31", "#7b5ea7", "#a3a300", "#3b3b3b", "#b04a5a")
_LINEARS = ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2")
_INK, _SOFT = "#2b2a27", "#6d6a62"


def format_colours(names: list[str]) -> dict[str, str]:
    others = sorted(set(names) - set(_KNOWN))
    return {name: _KNOWN.get(name) or _OTHERS[others.index(name) % len(_OTHERS)] for name in names}


def _axes(figure: go.Figure, **options) -> None:
    figure.update_xaxes(gridcolor="#e7e5df", zeroline=False, linecolor="#c9c6bd", automargin=True, **options)
    figure.update_yaxes(gridcolor="#e7e5df", zeroline=False, linecolor="#c9c6bd", automargin=True)


def _bounds(levels: list[float]) -> list[float]:
    """Of the bins: half way between the levels."""
    return [0.0] + [(a + b) / 2 for a, b in zip(levels, levels[1:], strict=False)] + [levels[-1]]


def _eq2_bars(levels: list[float], edges: list[float], bias: list[float]) -> go.Bar:
    """From edge to edge of each bin."""
    pairs = list(zip(edges, edges[1:], strict=False))
    return go.Bar(x=[(a + b) / 2 for a, b in pairs], width=[b - a for a, b in pairs], y=bias, name="Eq. 2", customdata=levels,
                  marker={"color": "rgba(224,176,64,0.45)"}, hovertemplate="Eq. 2<br>level %{customdata}<br>%{y:+.4f}<extra></extra>")


def _weighted(schemes: list[tuple[int, dict]], key: str, by: str | None = None) -> list[float] | None:
    """Level by level, the mean over matrices, weighted by their sizes and, with `by`, by another list."""
    rows = [(size, s[key], s[by] if by else None) for size, s in schemes if s.get(key)]
    if not rows:
        return None
    result = []
    for k in range(len(rows[0][1])):
        weights = [size * (own[k] if own else 1) for size, _, own in rows]
        total = sum(weights)
        result.append(sum(w * v[k] for w, (_, v, _) in zip(weights, rows, strict=True)) / total if total else 0.0)
    return result


def bins(expected: dict, matrices: list[Measured], colour: str) -> go.Figure:
    """A format's grid: what falls into each bin, and the mean error there: Eq. 2, normal values, and as measured."""
    levels = expected["levels"]
    edges = _bounds(levels)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.42, 0.58], vertical_spacing=0.06)
    series = []
    if expected.get("normal_share"):
        series.append(("normal values", expected["normal_share"], expected["normal_mean_error"], _SOFT, "diamond-open", "dot"))
    for transformed, label, symbol in ((False, "measured, no transform", "circle-open"), (True, "measured, after RHT", "circle")):
        schemes = [(m.size, s) for m in matrices if (s := m.scheme(expected["name"], transformed))]
        share = _weighted(schemes, "level_share")
        if share:
            error = _weighted(schemes, "level_mean_error", "level_share")
            series.append((label, share[:len(levels)], error[:len(levels)], colour if transformed else "#9c998f", symbol, "solid"))
    for name, share, error, shade, symbol, dash in series:
        density = [p / (b - a) for p, a, b in zip(share, edges, edges[1:], strict=False)]
        # A staircase over the bins: the density of |value| / scale.
        x = [edge for a, b in zip(edges, edges[1:], strict=False) for edge in (a, b)]
        y = [d for d in density for _ in (0, 1)]
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", name=name, legendgroup=name, showlegend=False, hoverinfo="skip",
                                    line={"color": shade, "width": 1.8, "dash": dash}), 1, 1)
        figure.add_trace(go.Scatter(
            x=levels, y=error, mode="markers", name=name, legendgroup=name,
            marker={"color": shade, "symbol": symbol, "size": 9, "line": {"width": 1.6, "color": shade}}, customdata=share,
            hovertemplate=f"{name}<br>level %{{x}}<br>mean error %{{y:+.4f}}<br>share %{{customdata:.1%}}<extra></extra>"), 2, 1)
    figure.add_trace(_eq2_bars(levels, edges, expected["eq2_bias"]), 2, 1)
    _layout(figure, "", "", height=470)
    _axes(figure)
    for edge in edges[1:-1]:
        figure.add_vline(x=edge, line={"color": "#d8d5cc", "width": 1, "dash": "dot"}, layer="below")
    for level in levels:
        figure.add_vline(x=level, line={"color": "#efece4", "width": 1}, layer="below")
    figure.update_xaxes(tickvals=levels, showgrid=False, range=[-0.03 * levels[-1], 1.03 * levels[-1]])
    figure.update_xaxes(title={"text": f"|value| / scale, levels of {expected['name']}", "standoff": 8}, row=2, col=1)
    figure.update_yaxes(title={"text": "density", "standoff": 8}, rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title={"text": "level − |value|, mean", "standoff": 8}, zeroline=True, zerolinecolor=_SOFT, row=2, col=1)
    figure.update_layout(showlegend=True, margin={"l": 16, "r": 16, "t": 10, "b": 10}, font={"size": 12})
    return figure


def _gain(matrix: Measured, name: str) -> float | None:
    scheme = matrix.scheme(name, True)
    return scheme.get("gain_db") if scheme else None


def gain_map(measurements: Measurements, names: list[str]) -> go.Figure | None:
    """Gain of the transform in dB: linears down, operands across, a map a format. Tensors of a file: kinds by layer."""
    matrices = measurements.matrices
    operands = [o for o in GEMM_OPERANDS if any(m.operand == o for m in matrices)]
    columns = operands or ["tensor"]
    rows = list(dict.fromkeys(m.name for m in matrices))
    cells = {(m.name, m.operand or "tensor"): m for m in matrices}
    maps = []
    for name in names:
        z = [[(_gain(cells[r, c], name) if (r, c) in cells else None) for c in columns] for r in rows]
        if any(v is not None for line in z for v in line):
            maps.append((name, z))
    if not maps:
        return None
    figure = make_subplots(rows=1, cols=len(maps), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=[name for name, _ in maps])
    largest = max(abs(v) for _, z in maps for line in z for v in line if v is not None) or 1
    short = [r.replace("layers.", "").replace("linear_", "") for r in rows]
    for i, (name, z) in enumerate(maps, 1):
        figure.add_trace(go.Heatmap(
            z=z, x=columns, y=short, zmin=-largest, zmax=largest, xgap=1.5, ygap=1.5,
            colorscale=[[0, "#b2182b"], [0.25, "#ef8a62"], [0.5, "#f7f6f2"], [0.75, "#67a9cf"], [1, "#2166ac"]],
            text=[["" if v is None else f"{v:+.1f}" for v in line] for line in z], texttemplate="%{text}",
            textfont={"size": 10 if len(maps) < 3 else 8}, showscale=i == len(maps),
            colorbar={"title": {"text": "dB"}, "thickness": 12, "outlinewidth": 0},
            hovertemplate=f"{name}<br>%{{y}} %{{x}}<br>%{{z:+.2f}} dB<extra></extra>"), 1, i)
    _layout(figure, "", height=110 + 19 * len(rows))
    _axes(figure, showgrid=False)
    figure.update_xaxes(title=None, side="bottom", tickangle=-40, ticks="")
    figure.update_yaxes(title=None, autorange="reversed", showgrid=False, ticks="", type="category")
    figure.update_annotations(font={"size": 13, "color": _INK}, yshift=4)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 54, "b": 10})
    return figure


def kinds_of(measurements: Measurements) -> list[str]:
    """Linear by linear in model order, the operands of each in the order of the GEMMs."""
    linears = list(dict.fromkeys(m.kind.rsplit(" ", 1)[0] for m in measurements.matrices))
    linears.sort(key=lambda name: _LINEARS.index(name) if name in _LINEARS else len(_LINEARS))
    order = {o: i for i, o in enumerate(GEMM_OPERANDS)}
    seen = {m.kind: (linears.index(m.kind.rsplit(" ", 1)[0]), order.get(m.operand, 0)) for m in measurements.matrices}
    return sorted(seen, key=seen.get)


def arrows(measurements: Measurements, names: list[str], palette: dict, most: int = 30) -> go.Figure | None:
    """SQNR without the transform (ring) and with it (arrow's end), a line a format, for each kind of matrix."""
    kinds = kinds_of(measurements)
    if len(kinds) > most:
        return None
    figure = go.Figure()
    lanes = len(names)
    any_arrow = False
    for lane, name in enumerate(names):
        offset = (lane - (lanes - 1) / 2) * 0.62 / max(lanes, 1)
        xs, ys, ends, texts = [], [], [], []
        for row, kind in enumerate(kinds):
            pairs = [(a["sqnr_db"], b["sqnr_db"]) for m in measurements.matrices if m.kind == kind
                     and (a := m.scheme(name, False)) and (b := m.scheme(name, True))
                     and a["sqnr_db"] is not None and b["sqnr_db"] is not None]
            if not pairs:
                continue
            start, end = mean(p[0] for p in pairs), mean(p[1] for p in pairs)
            xs.append(start), ends.append(end), ys.append(row + offset)
            texts.append(f"{name}, {kind}<br>{start:.2f} → {end:.2f} dB ({end - start:+.2f})")
            any_arrow = True
            figure.add_annotation(x=end, y=row + offset, ax=start, ay=row + offset, xref="x", yref="y", axref="x", ayref="y",
                                  showarrow=True, arrowhead=2, arrowsize=1.0, arrowwidth=1.8, arrowcolor=palette[name], text="")
        figure.add_trace(go.Scatter(x=xs, y=ys, mode="markers", name=name, marker={"color": "#ffffff", "size": 8, "line": {"color": palette[name], "width": 2}},
                                    text=texts, hovertemplate="%{text}<extra></extra>"))
        figure.add_trace(go.Scatter(x=ends, y=ys, mode="markers", showlegend=False, marker={"color": palette[name], "size": 3},
                                    text=texts, hovertemplate="%{text}<extra></extra>"))
    if not any_arrow:
        return None
    _layout(figure, "", "SQNR, dB: from no transform (ring) to after RHT (arrow)", height=110 + (20 + 9 * lanes) * len(kinds))
    figure.update_yaxes(tickvals=list(range(len(kinds))), ticktext=kinds, autorange=False, range=[len(kinds) - 0.4, -0.6], showgrid=False, title=None)
    for row in range(1, len(kinds)):
        figure.add_hline(y=row - 0.5, line={"color": "#efece4", "width": 1})
    figure.update_layout(showlegend=True)
    return figure


def over_steps(series: list[Measurements], names: list[str], palette: dict, kind: str, key: str, title: str) -> go.Figure | None:
    """A figure of one kind of operand over the steps of a run: solid after the transform, dashed before."""
    figure = go.Figure()
    for name in names:
        for transformed in (False, True):
            x, y = [], []
            for own in series:
                values = [s[key] for m in own.matrices if m.kind == kind and (s := m.scheme(name, transformed)) and s[key] is not None]
                if values:
                    x.append(own.step), y.append(mean(values))
            if len(x) > 1:
                figure.add_trace(go.Scatter(x=x, y=y, mode="lines+markers", name=name + (", RHT" if transformed else ""),
                                            line={"color": palette[name], "dash": "solid" if transformed else "dot", "width": 1.8},
                                            hovertemplate="step %{x}<br>%{y:.3f}<extra></extra>"))
    if not figure.data:
        return None
    _layout(figure, title)
    figure.update_layout(showlegend=True)
    return figure


# ---- the chain ---------------------------------------------------------------------------------------------------


def _base_format(recipe: str) -> str:
    return recipe.split("+")[0]


def _chain_line(recipe: dict, gemm: str, palette: dict, **options) -> dict:
    return {"color": palette[_base_format(recipe["name"])], "dash": "solid" if recipe["hadamard"][gemm] else "dot", "width": 1.9} | options


def _short(linear: str) -> str:
    return linear.replace("layers.", "").replace("linear_", "")


def chain(document: dict, palette: dict, gradient: bool) -> go.Figure:
    """alpha of the residual stream (or of its gradient) along the depth, and thin the product of eta to that place."""
    figure = go.Figure()
    gemm = "dgrad" if gradient else "fprop"
    for recipe in document["recipes"]:
        x = [_short(p["linear"]) for p in recipe["stream"]]
        y = [p["gradient" if gradient else "forward"]["alpha"] for p in recipe["stream"]]
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines+markers", name=recipe["name"], legendgroup=recipe["name"], marker={"size": 5},
                                    line=_chain_line(recipe, gemm, palette),
                                    hovertemplate=f"{recipe['name']}, measured<br>%{{x}}<br>%{{y:.4f}}<extra></extra>"))
        product = {_short(entry["linear"]): entry[gemm]["eta_product"] for entry in recipe["linears"]}
        figure.add_trace(go.Scatter(x=x, y=[product[p] for p in x], mode="lines", name=recipe["name"], legendgroup=recipe["name"], showlegend=False,
                                    line=_chain_line(recipe, gemm, palette, width=0.9), opacity=0.8,
                                    hovertemplate=f"{recipe['name']}, product of eta<br>%{{x}}<br>%{{y:.4f}}<extra></extra>"))
    _layout(figure, "alpha of the gradient of the stream" if gradient else "alpha of the residual stream", "behind the linear", height=400)
    figure.add_hline(y=1, line={"color": _SOFT, "width": 1})
    figure.update_xaxes(type="category", tickangle=-50, showgrid=False)
    figure.update_layout(showlegend=True)
    return figure


def chain_single(document: dict, palette: dict) -> go.Figure:
    """Each GEMM by itself: alpha of its result over eta, for fprop, dgrad and wgrad; on the line, Eq. 3 holds."""
    gemms = ("fprop", "dgrad", "wgrad")
    figure = make_subplots(rows=1, cols=3, subplot_titles=gemms, horizontal_spacing=0.07)
    for i, gemm in enumerate(gemms, 1):
        points = []
        for recipe in document["recipes"]:
            x = [entry[gemm]["eta"] for entry in recipe["linears"]]
            y = [entry[gemm]["alone"]["alpha"] for entry in recipe["linears"]]
            points += x + y
            colour = palette[_base_format(recipe["name"])]
            figure.add_trace(go.Scatter(
                x=x, y=y, mode="markers", name=recipe["name"], legendgroup=recipe["name"], showlegend=i == 1,
                marker={"color": colour if recipe["hadamard"][gemm] else "rgba(255,255,255,0)", "size": 7, "line": {"color": colour, "width": 1.6}},
                text=[f"{_short(entry['linear'])}, coherence {entry[gemm]['coherence']:+.3f}" for entry in recipe["linears"]],
                hovertemplate=f"{recipe['name']}<br>%{{text}}<br>eta %{{x:.4f}}, alpha %{{y:.4f}}<extra></extra>"), 1, i)
        low, high = min(points), max(points)
        figure.add_trace(go.Scatter(x=[low, high], y=[low, high], mode="lines", hoverinfo="skip", showlegend=False,
                                    line={"color": _SOFT, "width": 1}), 1, i)
    _layout(figure, "", "", height=360)
    _axes(figure)
    figure.update_xaxes(title={"text": "eta of the operands", "standoff": 6}, nticks=6)
    figure.update_yaxes(title=None)
    figure.update_yaxes(title={"text": "alpha of the product", "standoff": 6}, col=1)
    figure.update_annotations(font={"size": 13, "color": _INK})
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0}, margin={"l": 10, "r": 12, "t": 54, "b": 10})
    return figure


# ---- theory ------------------------------------------------------------------------------------------------------


def grid_bins(document: dict) -> go.Figure:
    """A grid's bins: Eq. 2's bias as bars, the exact mean error under each distribution as points."""
    levels = [b["level"] for b in document["bins"]]
    edges = _bounds(levels)
    figure = go.Figure()
    figure.add_trace(_eq2_bars(levels, edges, [b["eq2_bias"] for b in document["bins"]]))
    shades = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d31")
    symbols = ("circle", "diamond", "square", "triangle-up", "x", "cross")
    for i, (name, figures) in enumerate(document["expected"].items()):
        figure.add_trace(go.Scatter(x=levels, y=figures["level_mean_error"], mode="markers+lines", name=name,
                                    line={"color": shades[i % 6], "width": 0.8}, marker={"color": shades[i % 6], "symbol": symbols[i % 6], "size": 8},
                                    hovertemplate=f"{name}<br>level %{{x}}<br>%{{y:+.4f}}<extra></extra>"))
    _layout(figure, "mean of level − |value|, in units of the scale", "|value| / scale", height=400)
    for edge in edges[1:-1]:
        figure.add_vline(x=edge, line={"color": "#d8d5cc", "width": 1, "dash": "dot"}, layer="below")
    figure.update_xaxes(tickvals=levels, showgrid=False)
    figure.update_yaxes(zeroline=True, zerolinecolor=_SOFT)
    figure.update_layout(showlegend=True)
    return figure


def grid_scores(document: dict) -> go.Figure:
    """SQNR and alpha of a grid under each distribution, before and after the transform."""
    names = list(document["expected"])
    groups = [("before", document["expected"], ("#0072b2", "#d55e00"), "#ffffff"),
              ("after the transform", document.get("after_transform", {}).get("measured", {}), ("#9cc9e6", "#f2b98f"), _INK)]
    groups = [group for group in groups if group[1]]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.05)
    for column, (key, title) in enumerate((("sqnr_db", "SQNR, dB"), ("delta", "delta = 1 − alpha")), 1):
        for label, figures, colours, ink in groups:
            values = [figures[n][key] for n in names]
            figure.add_trace(go.Bar(x=values, y=names, orientation="h", name=label, marker={"color": colours[column - 1]}, insidetextfont={"color": ink},
                                    showlegend=column == 1 and len(groups) > 1, text=[f"{v:.2f}" if column == 1 else f"{v:+.5f}" for v in values], textposition="auto",
                                    hovertemplate=f"%{{y}}, {label}: %{{x}}<extra></extra>"), 1, column)
        figure.update_xaxes(title={"text": title, "standoff": 6}, row=1, col=column)
    _layout(figure, "", "", height=110 + 26 * len(groups) * len(names))
    _axes(figure)
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(title={"text": "SQNR, dB", "standoff": 6}, col=1)
    figure.update_xaxes(title={"text": "delta = 1 − alpha", "standoff": 6}, col=2, zeroline=True, zerolinecolor=_SOFT)
    figure.update_yaxes(title=None, autorange="reversed", showgrid=False)
    return figure


def sweep(document: dict) -> go.Figure:
    """SQNR by rank under each distribution, before or after the transform as they are ranked; the named formats marked."""
    after = document.get("ranked_by") == "after"
    own, uniform = ("after_transform", "uniform_after_transform") if after else ("figures", "uniform")
    figure = go.Figure()
    shades = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d31")
    for i, (name, entry) in enumerate(document["distributions"].items()):
        shade = shades[i % 6]
        ranked = entry["ranked"]
        figure.add_trace(go.Scatter(x=[r["rank"] for r in ranked], y=[r[own]["sqnr_db"] for r in ranked], mode="lines+markers", name=name,
                                    line={"color": shade, "width": 1.4}, marker={"size": 4, "color": shade},
                                    text=[" ".join(f"{v:g}" for v in r["levels"]) for r in ranked],
                                    hovertemplate=f"{name}, rank %{{x}}<br>%{{text}}<br>%{{y:.3f}} dB<extra></extra>"))
        marked = [r for r in ranked if r["format"]]
        figure.add_trace(go.Scatter(x=[r["rank"] for r in marked], y=[r[own]["sqnr_db"] for r in marked], mode="markers+text", showlegend=False,
                                    text=[r["format"] for r in marked], textposition="top right", textfont={"color": shade, "size": 12},
                                    marker={"size": 10, "color": shade, "symbol": "diamond"}, hoverinfo="skip", cliponaxis=False))
        figure.add_hline(y=entry[uniform]["sqnr_db"], line={"color": shade, "width": 1, "dash": "dot"})
    _layout(figure, f"SQNR {'after' if after else 'before'} the transform, dB", "rank among the grids", height=420)
    figure.update_xaxes(type="log", dtick=1)
    figure.update_layout(showlegend=True)
    return figure

