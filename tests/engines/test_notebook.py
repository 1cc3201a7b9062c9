"""examples/four_bits.ipynb runs, from a fresh kernel, and shows what it says."""

import json
import os
import sys

import nbclient
import nbformat
import pytest
from conftest import ROOT

NOTEBOOK = ROOT / "examples" / "four_bits.ipynb"
PLOTLY = "application/vnd.plotly.v1+json"
# What the notebook has made in the end, for the test.
MEASURED = """import json, sys
print(json.dumps({"python": sys.executable, "tensor": tensor.to_dict(), "bias": bias, "losses": losses, "kept": report.kept, "converted": len(report.converted),
                  "layers": layers, "rows": len(table), "sqnr": table.groupby(["format", "hadamard"])["sqnr_db"].mean().unstack().to_dict()}))"""


@pytest.fixture(scope="module")
def executed(ops_library, tmp_path_factory):
    """The notebook after a run in a kernel of this interpreter, on the operators under test; and what it measured."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    before = nbformat.v4.new_code_cell(f"import ufp4.library\nufp4.library.use({str(ops_library)!r})")
    book.cells = [before, *book.cells, nbformat.v4.new_code_cell(MEASURED)]
    folder = str(tmp_path_factory.mktemp("jupyter"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, folder)
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "OMP_NUM_THREADS": "1"}
        client = nbclient.NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT / "examples")}})
        client.execute(env=environment)
    return book, json.loads("".join(output.get("text", "") for output in book.cells[-1].outputs))


def outputs_of(book, kind):
    return [output["data"][kind] for cell in book.cells if cell.cell_type == "code" for output in cell.outputs if kind in output.get("data", {})]


def test_it_is_stored_without_outputs():
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert code and all(not cell.outputs and cell.execution_count is None for cell in code)
    assert NOTEBOOK.stat().st_size < 20_000


def test_it_shows_tables_and_plots(executed):
    book, _ = executed
    assert len(outputs_of(book, PLOTLY)) == 4
    assert len([html for html in outputs_of(book, "text/html") if "<table" in html]) == 3
    printed = "".join(output.get("text", "") for cell in book.cells if cell.cell_type == "code" for output in cell.outputs)
    assert "ufp4: 8 linear layers under recipe 'ufp4'" in printed and "head: keep_bf16 has 'head'" in printed


def test_it_shows_what_its_text_says(executed):
    _, found = executed
    assert found["python"] == sys.executable
    tensor = found["tensor"]
    assert tensor["gain"]["e1m2"] > tensor["gain"]["e2m1"]
    assert min(found["bias"]["e2m1"]) < -1.5 and max(map(abs, found["bias"]["e1m2"])) < 1
    for losses in found["losses"].values():
        assert losses[-1] < losses[0] - 2
    assert abs(found["losses"]["BF16"][-1] - found["losses"]["ufp4"][-1]) < 0.15
    assert (found["converted"], found["layers"], found["rows"]) == (8, 8, 9 * 6 * 4 * 2)
    assert found["sqnr"]["16"]["e1m2"] > found["sqnr"]["0"]["e1m2"]
