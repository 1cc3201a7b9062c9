"""`python -m ufp4 report` on the JSON of `ufp4 analyze` and `ufp4 formats`, with invented figures."""

import json

import pytest
from test_report import figures_of, run_ufp4

LEVELS = {"e2m1": [0, 0.5, 1, 1.5, 2, 3, 4, 6], "e1m2": [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]}


def expected(name):
    return {"name": name, "block": 16, "levels": LEVELS[name], "eq2_bias": [0.0] * 4 + [-0.125, 0, -0.25, 0],
            "normal_mean_error": [0.01] * 8, "normal_share": [0.125] * 8}


def scheme(name, hadamard, sqnr):
    return {"format": name, "block": 16, "hadamard": hadamard, "rounding": "rtne", "sqnr_db": sqnr, "nmse": 0.01, "alpha": 0.99, "delta": 0.01,
            "bucket_ratio": 0.9, "zero_share": 0.1, "clamped_share": 0, "level_share": [0.125] * 8, "level_mean_error": [-0.01] * 8,
            **({"gain_db": sqnr - 20} if hadamard else {})}


def matrix():
    return {"shape": [64, 32], "nonfinite": 0, "rms": 1, "amax": 5, "crest": 5,
            "schemes": [scheme(n, h, s) for n, h, s in (("e2m1", 0, 20), ("e2m1", 16, 18.5), ("e1m2", 0, 20), ("e1m2", 16, 23.25))]}


def operands():
    records = [{"linear": f"layers.{i}.linear_{kind}", "gemm": gemm, "operand": operand, **matrix()}
               for i in range(2) for kind in ("fc1", "fc2") for gemm, operand in (("fprop", "x"), ("wgrad", "dy"))]
    return {"kind": "operands", "source": "runs/a", "formats": [expected("e2m1"), expected("e1m2")], "operands": records}


def page_of(document, folder, name="document"):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document))
    done = run_ufp4("report", path)
    assert done.returncode == 0, done.stderr
    return (folder / f"{name}.html").read_text()


def test_operands(tmp_path):
    page = page_of(operands(), tmp_path)
    figures = figures_of(page.replace('data-for="bins-', 'data-for="bins_'))
    assert set(figures) == {"bins_e2m1", "bins_e1m2", "arrows", "gain"}
    assert [trace["z"][0] for trace in figures["gain"]["data"]] == [[-1.5, -1.5], [3.25, 3.25]]
    assert len([a for a in figures["arrows"]["layout"]["annotations"] if a["showarrow"]]) == 2 * 4
    assert "20.00 → 23.25" in page and "linear_fc2 fprop.x" in page


def test_tensors_with_notes(tmp_path):
    document = {"kind": "tensors", "source": "a.safetensors", "formats": [expected("e2m1")], "skipped": ["ids: I64 [3]"],
                "tensors": [{"name": "<w>", "file": "a", "dtype": "F32", **matrix(), "nonfinite": 3}]}
    page = page_of(document, tmp_path)
    assert "&lt;w&gt;: 3 values are NaN or infinite" in page and "ids: I64 [3] first" in page
    assert page_of({**document, "tensors": []}, tmp_path, "none").count("No matrix was measured") == 1


def test_chain(tmp_path):
    agreement = {"alpha": 0.97, "cosine": 0.99, "nmse": 0.01}
    gemm = {"alpha_operands": [0.99, 1], "eta": 0.99, "alone": agreement, "coherence": 0.02, "in_chain": agreement, "eta_product": 0.95}
    linears = [{"linear": f"layers.0.linear_{n}", "fprop": gemm, "dgrad": gemm, "wgrad": {**gemm, "eta_product": None}} for n in ("qkv", "proj", "fc1", "fc2")]
    stream = [{"linear": f"layers.0.linear_{n}", "forward": agreement, "gradient": agreement} for n in ("proj", "fc2")]
    transforms = {"e2m1": (0, 0, 0), "e2m1+rht16": (16, 16, 16), "mine": (16, 0, 16)}
    recipes = [{"name": n, "hadamard": dict(zip(("fprop", "dgrad", "wgrad"), h, strict=True)), "loss": 1.51, "linears": linears, "stream": stream}
               for n, h in transforms.items()]
    page = page_of({"kind": "chain", "source": "runs/a", "step": 8, "tokens": 64, "loss_bf16": 1.5, "recipes": recipes}, tmp_path)
    figures = figures_of(page)
    assert set(figures) == {"forward", "backward", "single"}
    dashes = {name: [trace["line"]["dash"] for trace in figures[name]["data"]] for name in ("forward", "backward")}
    assert dashes == {"forward": ["dot"] * 2 + ["solid"] * 4, "backward": ["dot"] * 2 + ["solid"] * 2 + ["dot"] * 2}
    assert "+0.0100" in page


def test_theory(tmp_path):
    figure = {"alpha": 0.99, "delta": 0.01, "nmse": 0.01, "sqnr_db": 20.5, "bucket_ratio": 0.9, "level_share": [0.1] * 8, "level_mean_error": [0.0] * 8}
    grid = {"kind": "grid", "grid": "e2m1", "levels": LEVELS["e2m1"], "block": 16, "expected": {"normal": figure},
            "bins": [{"level": v, "lower": v, "upper": v, "asymmetry": 0, "eq2_bias": 0} for v in LEVELS["e2m1"]]}
    assert set(figures_of(page_of(grid, tmp_path, "grid"))) == {"bins", "scores"}
    ranked = [{"rank": 1, "levels": [0, 1, 2], "format": "", "figures": figure}, {"rank": 40, "levels": [0, 2, 3], "format": "e2m1", "figures": figure}]
    sweep = {"kind": "sweep", "level_count": 8, "largest": 12, "block": 16, "distributions": {"normal": {"grids": 462, "uniform": figure, "ranked": ranked}}}
    assert set(figures_of(page_of(sweep, tmp_path, "sweep"))) == {"sweep"}
    better = {**figure, "sqnr_db": 29.5}
    entry = {"grids": 462, "uniform": figure, "uniform_after_transform": better, "ranked": [{**r, "after_transform": better} for r in ranked]}
    page = page_of({**sweep, "ranked_by": "after", "distributions": {"normal": entry}}, tmp_path, "after")
    assert figures_of(page)["sweep"]["data"][0]["y"] == [29.5, 29.5] and "SQNR after the transform" in page


@pytest.mark.parametrize("text, message", [
    ("{", "line 1"),
    ("[]", "expected a JSON object"),
    ('{"kind": "tensor"}', "expected one of tensors, operands, chain, grid, sweep"),
])
def test_what_is_no_document(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    done = run_ufp4("report", path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "x.html").exists()
