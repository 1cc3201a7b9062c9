"""`python -m ufp4 report` on the JSON of `ufp4 analyze` and `ufp4 formats`, with invented figures."""

import json

import pytest
from documents import chain, expected, grid, matrix, operands, sweep, sweep_after
from test_report import figures_of, run_ufp4


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
    page = page_of(chain(), tmp_path)
    figures = figures_of(page)
    assert set(figures) == {"forward", "backward", "single"}
    dashes = {name: [trace["line"]["dash"] for trace in figures[name]["data"]] for name in ("forward", "backward")}
    assert dashes == {"forward": ["dot"] * 2 + ["solid"] * 4, "backward": ["dot"] * 2 + ["solid"] * 2 + ["dot"] * 2}
    assert "+0.0100" in page


def test_theory(tmp_path):
    assert set(figures_of(page_of(grid(), tmp_path, "grid"))) == {"bins", "scores"}
    assert set(figures_of(page_of(sweep(), tmp_path, "sweep"))) == {"sweep"}
    page = page_of(sweep_after(), tmp_path, "after")
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
