"""The sections of the report about measurements, and the page of a JSON document of `ufp4 analyze` or `ufp4 formats`."""

from pathlib import Path

from markupsafe import Markup

from ufp4 import analysis_figures as figures
from ufp4.measurements import Measurements, measurements_of, read_document
from ufp4.page import Cell, figure_html, joined, page, pair, scroll, section, table, write_page


def write_document_report(path: Path, out: Path) -> Path:
    """The page of one document. Throws InputError for what cannot be read."""
    document = read_document(path)
    titles = {"tensors": "Tensors", "operands": "Operands", "chain": "The chain", "grid": "A grid", "sweep": "Grids ranked"}
    source = document.get("source") or document.get("grid") or path.stem
    makers = {"tensors": _tensors, "operands": _tensors, "chain": _chain, "grid": _grid, "sweep": _sweep}
    facts, notes, sections = makers[document["kind"]](document)
    return write_page(page(f"{titles[document['kind']]}: {Path(source).name or source}", facts, notes, sections), out)


# ---- measurements ------------------------------------------------------------------------------------------------


def measurement_sections(measurements: Measurements) -> Markup:
    """Bins, arrows, map and table of one set of measurements."""
    names = measurements.format_names()
    palette = figures.format_colours(names)
    parts = []
    for name in names:
        expected = measurements.formats.get(name)
        if expected and any(m.schemes and (s := m.scheme(name, False)) and s.get("level_share") for m in measurements.matrices):
            parts.append(figure_html(f"bins-{name}", figures.bins(expected, _heavy(measurements), palette[name])))
    text = []
    if parts:
        pairs = joined(pair(parts[i:i + 2]) for i in range(0, len(parts), 2))
        text.append(section("Bins and errors", f"Above, the density of |value| / scale; below, the mean rounding error of what falls into each bin, over {_heavy_words(measurements)}. "
                            "Bars: Eq. 2 of the paper, with a density constant inside the bin. Diamonds: exactly, for normal values. "
                            "Below zero the bin pulls toward zero.", pairs))
    arrow = figures.arrows(measurements, names, palette)
    if arrow:
        text.append(section("SQNR before and after the transform", "The mean over all layers of a kind, in dB. To the right is better.", figure_html("arrows", arrow)))
    gain = figures.gain_map(measurements, names[:4])
    if gain:
        text.append(section("Gain of the transform", "SQNR after RHT less SQNR without, in dB: blue gains, red loses.", scroll(figure_html("gain", gain))))
    text.append(section("Figures", "B_eff is the exponential of the entropy of the codes' use over their number.", _table(measurements, names)))
    return joined(text)


def _heavy(measurements: Measurements) -> list:
    """The matrices whose bins are drawn: the input of linear_fc2 where there is one, the paper's heavy-tailed operand."""
    chosen = [m for m in measurements.matrices if "linear_fc2" in m.name and m.operand == "fprop.x"]
    return chosen or measurements.matrices


def _heavy_words(measurements: Measurements) -> str:
    return "all matrices" if _heavy(measurements) is measurements.matrices else "linear_fc2's inputs of all layers"


def _table(measurements: Measurements, names: list[str]) -> Markup:
    """Kind by kind: crest factor, and for each format SQNR and B_eff without and with the transform."""
    head = ["", "", *(Cell(name, span=3) for name in names)]
    sub = ["matrix", "crest", *["SQNR, dB", "gain", "B_eff"] * len(names)]
    rows = []
    for kind in figures.kinds_of(measurements):
        own = [m for m in measurements.matrices if m.kind == kind]
        cells = [f"{sum(m.crest for m in own) / len(own):.1f}"]
        for name in names:
            pairs = [(a, b) for m in own if (a := m.scheme(name, False)) and (b := m.scheme(name, True)) and a["sqnr_db"] is not None and b["sqnr_db"] is not None]
            if not pairs:
                cells += ["–"] * 3
                continue
            n = len(pairs)
            before, after = sum(a["sqnr_db"] for a, _ in pairs) / n, sum(b["sqnr_db"] for _, b in pairs) / n
            cells += [f"{before:.2f} → {after:.2f}", f"{after - before:+.2f}".replace("-", "\u2212"),
                      f"{sum(a['bucket_ratio'] for a, _ in pairs) / n:.2f} → {sum(b['bucket_ratio'] for _, b in pairs) / n:.2f}"]
        rows.append([kind, *cells])
    return table([head, sub], rows)


def run_sections(series: list[Measurements]) -> Markup:
    """Of a run with analysis.jsonl: the last measurement, and how fc2's input changed over the steps."""
    if not series:
        return Markup()
    last = series[-1]
    names = last.format_names()
    palette = figures.format_colours(names)
    parts = []
    kind = "linear_fc2 fprop.x"
    for key, title in (("sqnr_db", "SQNR of linear_fc2's input, dB"), ("bucket_ratio", "B_eff of linear_fc2's input")):
        figure = figures.over_steps(series, names, palette, kind, key, title)
        if figure:
            parts.append(figure_html(f"steps-{key}", figure))
    text = section(f"Operands at step {last.step}", "What the formats do to the operands of the linears before they are quantized.")
    text += measurement_sections(last)
    if parts:
        text += section("Over the run", "Dotted: no transform. Solid: after RHT. The mean over all layers.", pair(parts))
    return text


def _tensors(document: dict):
    measurements = measurements_of(document)
    facts = [("source", measurements.source), ("matrices", str(len(measurements.matrices))), ("formats", ", ".join(measurements.format_names()))]
    notes = list(measurements.nonfinite)
    if measurements.skipped:
        notes.append(f"{len(measurements.skipped)} tensors are no float matrices and were left out, {measurements.skipped[0]} first.")
    if not measurements.matrices:
        return facts, [*notes, "No matrix was measured."], Markup()
    return facts, notes, measurement_sections(measurements)


# ---- the chain ---------------------------------------------------------------------------------------------------


def _chain(document: dict):
    recipes = document["recipes"]
    palette = figures.format_colours(list(dict.fromkeys(r["name"].split("+")[0] for r in recipes)))
    facts = [("checkpoint", document.get("source", "")), ("step", str(document["step"])), ("tokens", f"{document['tokens']:,}"),
             ("loss in BF16", f"{document['loss_bf16']:.4f}"), ("recipes", ", ".join(r["name"] for r in recipes))]
    text = section("Signal", "The residual stream of the quantized pass beside that of the BF16 pass: alpha, what is left of the signal. Thick: measured. "
                   "Thin: the product of eta over all linears up to there, as Eq. 3 to 5 have it. Dotted: no transform in these GEMMs.",
                   figure_html("forward", figures.chain(document, palette, False)))
    text += section("Gradient", "The same for the gradient of the stream, which runs from right to left.", figure_html("backward", figures.chain(document, palette, True)))
    text += section("Each GEMM by itself", "Operands of the BF16 pass, quantized: alpha of the product over the product of its operands' alphas. On the line the residuals are "
                    "incoherent with the signal, as the paper assumes. Filled: after RHT.", figure_html("single", figures.chain_single(document, palette)))
    return facts, [], text + section("At the end", "Behind the last layer, and for the gradient at the first.", _chain_table(document))


def _chain_table(document: dict) -> Markup:
    rows = []
    for recipe in document["recipes"]:
        if not recipe["stream"]:
            continue
        last, first = recipe["stream"][-1]["forward"], recipe["stream"][0]["gradient"]
        coherent = [abs(entry[g]["coherence"]) for entry in recipe["linears"] for g in ("fprop", "dgrad", "wgrad")]
        cells = [f"{recipe['loss'] - document['loss_bf16']:+.4f}", f"{last['alpha']:.4f}", f"{recipe['linears'][-1]['fprop']['eta_product']:.4f}", f"{last['cosine']:.4f}",
                 f"{first['alpha']:.4f}", f"{recipe['linears'][0]['dgrad']['eta_product']:.4f}", f"{first['cosine']:.4f}", f"{sum(coherent) / len(coherent):.3f}", f"{max(coherent):.3f}"]
        rows.append([recipe["name"], *(cell.replace("-", "\u2212") for cell in cells)])
    head = ["", "", Cell("signal", span=3), Cell("gradient", span=3), Cell("|coherence|", span=2)]
    return table([head, ["recipe", "loss − BF16", *["alpha", "product", "cosine"] * 2, "mean", "largest"]], rows)


# ---- theory ------------------------------------------------------------------------------------------------------


def _grid(document: dict):
    facts = [("levels", " ".join(f"{v:g}" for v in document["levels"])), ("block", str(document["block"]))]
    text = section("Bias of each bin", "Bars: Eq. 2, with a density constant inside the bin. Points: exactly, for independent values whose block is scaled by its largest. "
                   "Below zero the bin pulls toward zero.", figure_html("bins", figures.grid_bins(document)))
    text += section("What it comes to", "Positive delta is shrinkage. Before the random Hadamard transform exactly; after it measured, on draws through the quantizer.", figure_html("scores", figures.grid_scores(document)))
    return facts, [], text


def _decibel(figures: dict | None, digits: int = 2) -> str:
    return f"{figures['sqnr_db']:.{digits}f}" if figures and figures["sqnr_db"] is not None else "–"


def _sweep(document: dict):
    facts = [("grids", str(max(e["grids"] for e in document["distributions"].values()))), ("levels", str(document["level_count"])),
             ("largest", str(document["largest"])), ("block", str(document["block"]))]
    text = section("Rank and error", f"Grids in the order of their SQNR {document.get('ranked_by', 'before')} the transform, those listed; diamonds are named formats, the dotted line is the uniform grid 0 .. 7.",
                   figure_html("sweep", figures.sweep(document)))
    for name, entry in document["distributions"].items():
        rows = [[str(r["rank"]), Cell(" ".join(f"{v:g}" for v in r["levels"]), left=True), _decibel(r["figures"], 3), _decibel(r.get("after_transform")),
                 f"{r['figures']['alpha']:.5f}", f"{r['figures']['bucket_ratio']:.3f}", r["format"]] for r in entry["ranked"][:20]]
        head = ["rank", Cell("levels", left=True), "SQNR, dB", "after RHT", "alpha", "B_eff", "format"]
        text += section(name, f"The uniform grid has {_decibel(entry['uniform'], 3)} dB, and {_decibel(entry.get('uniform_after_transform'))} dB after the transform.",
                        table([head], rows, titles=False))
    return facts, [], text
