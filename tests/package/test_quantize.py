"""quantize, sqnr, formats and analyze."""

import math

import pytest
import torch
import ufp4
from ufp4 import analysis

from package_models import WIDTH, net, normal


def test_formats_are_those_of_the_library():
    formats = ufp4.formats()
    assert ("e1m2", 16) in [entry[:2] for entry in formats] and ("mxfp4", 32) in [entry[:2] for entry in formats]
    assert all(entry.summary for entry in formats)


@pytest.mark.parametrize("format", ["e1m2", "e2m1", "nvfp4", "mxfp4", "hif4", "int4_p2", "int4_i4"])
def test_a_tensor_comes_back_in_its_shape(format):
    x = normal(3, 5, 40)
    quantized = ufp4.quantize(x, format)
    assert quantized.shape == x.shape and quantized.codes.dtype == torch.uint8 and quantized.codes.shape[0] == 15
    image = quantized.dequantize()
    assert image.shape == x.shape and image.dtype == torch.float32 and 10 < ufp4.sqnr(x, image) < 40
    assert torch.equal(quantized.dequantize(torch.bfloat16).float(), image.bfloat16().float())
    assert 4 < quantized.bits_per_element < 10


@pytest.mark.parametrize("outer, bits", [("own", 4.5625), ("1x128", 4.75), ("row", 4.5 + 32 / 2048)])
def test_second_level_scales_of_segments(outer, bits):
    x = normal(4, 2048)
    quantized = ufp4.quantize(x, "int4_i4", outer=outer)
    assert quantized.bits_per_element == bits and quantized.outer == outer
    assert ufp4.sqnr(x, quantized.dequantize()) > 21
    with pytest.raises(ufp4.InputError, match="no second-level scale for each tensor; it has row, 1x128"):
        ufp4.quantize(x, "int4_i4", outer="tensor")


def test_columns_are_rows_of_the_transpose():
    x = normal(40, 32)
    columns = ufp4.quantize(x, "e1m2", axis="column").dequantize()
    assert columns.shape == (32, 40)
    assert torch.equal(columns, ufp4.quantize(x.t(), "e1m2").dequantize())


@pytest.mark.parametrize("size", [16, 64])
def test_the_transform_is_the_one_that_is_quantized(size):
    x = normal(8, 128)
    image = ufp4.quantize(x, "e1m2", hadamard=size, seed=5).dequantize()
    assert ufp4.sqnr(analysis.transform(x, size, 5), image.double()) > 15
    assert abs(ufp4.sqnr(analysis.transform(x, size, 6), image.double())) < 5
    assert torch.allclose(analysis.transform(x, size, 5).norm(), x.double().norm())


def test_stochastic_rounding_follows_seed_and_step():
    x = normal(16, 64)
    first = ufp4.quantize(x, rounding="sr", seed=1, step=2)
    assert torch.equal(ufp4.quantize(x, rounding="sr", seed=1, step=2).codes, first.codes)
    assert not torch.equal(ufp4.quantize(x, rounding="sr", seed=1, step=3).codes, first.codes)


def test_sqnr():
    x = normal(10, 10)
    assert ufp4.sqnr(x, x) == math.inf and ufp4.sqnr(torch.zeros(3), torch.ones(3)) == -math.inf
    assert abs(ufp4.sqnr(x, 1.1 * x) - 20) < 1e-4
    with pytest.raises(ufp4.InputError, match=r"x is \[10, 10\] on cpu, its image \[10\]"):
        ufp4.sqnr(x, x[0])


@pytest.mark.parametrize("call, message", [
    (lambda x: ufp4.quantize(x, "e1m3"), "quantize: unknown format 'e1m3' .did you mean 'e1m2'"),
    (lambda x: ufp4.quantize(x, block=17), "block size 17"),
    (lambda x: ufp4.quantize(x.int()), "Int, expected Float, BFloat16 or Half"),
    (lambda x: ufp4.quantize([1.0]), "x is list, expected a torch.Tensor"),
    (lambda x: ufp4.quantize(x[None], axis="column"), "x has 3 dimensions, expected a matrix"),
    (lambda x: ufp4.quantize(x, axis="rows"), "'rows'"),
    (lambda x: analysis.transform(x, 17), "expected 0, 16, 32, 64 or 128|Hadamard size 17"),
])
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises((ufp4.InputError, RuntimeError), match=message):
        call(normal(16, 32))


def rows_of(table):
    return list(table) if isinstance(table, analysis.Table) else table.to_dict("records")


@pytest.mark.parametrize("converted", [False, True])
def test_a_models_operands_are_measured(converted):
    model = net(1)
    if converted:
        ufp4.convert(model, quiet=True)
    table = ufp4.analyze(model, normal(2, 16, WIDTH), ["e2m1", "e1m2"], loss=lambda y: y.float().square().mean())
    rows = rows_of(table)
    assert len(rows) == 3 * 6 * 2 * 2 and set(rows[0]) == set(analysis.COLUMNS)
    assert {row["operand"] for row in rows} == {"fprop.x", "fprop.w", "dgrad.dy", "dgrad.w", "wgrad.dy", "wgrad.x"}
    for row in rows:
        assert 10 < row["sqnr_db"] < 40 and abs(row["sqnr_db"] + 10 * math.log10(row["nmse"])) < 1e-6 and abs(row["delta"]) < 0.1
        assert (row["gain_db"] is not None and not math.isnan(row["gain_db"])) == (row["hadamard"] == 16)
    assert all(p.grad is None for p in model.parameters())
    weight = next(row for row in rows if (row["layer"], row["operand"], row["format"], row["hadamard"]) == ("layers.0.up", "fprop.w", "e1m2", 0))
    exact = model.layers[0].up.weight.detach().bfloat16()
    assert weight["sqnr_db"] == ufp4.sqnr(exact, ufp4.quantize(exact, "e1m2").dequantize())
    assert len(rows_of(ufp4.analyze(model, (normal(2, 16, WIDTH),), ["nvfp4"], hadamard=0))) == 3 * 2


def test_a_table_without_pandas(monkeypatch):
    import sys

    with_pandas = rows_of(ufp4.analyze(net(1), normal(2, 16, WIDTH), ["e1m2"]))
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = ufp4.analyze(net(1), normal(2, 16, WIDTH), ["e1m2"])
    assert isinstance(table, analysis.Table) and len(table) == len(with_pandas)
    assert [row["sqnr_db"] for row in table] == [row["sqnr_db"] for row in with_pandas]
    assert "arrows" in analysis.plots(table)


def test_it_measures_what_the_program_does(tmp_path, request):
    """A weight as a tensor of a file: ufp4 analyze has the same figures."""
    import json
    import subprocess
    from pathlib import Path

    safetensors = pytest.importorskip("safetensors.torch")
    program = Path(request.config.getoption("--ufp4"))
    if not program.is_file():
        pytest.skip(f"no program {program} in this build")
    model = net(1).bfloat16()
    rows = rows_of(ufp4.analyze(model, normal(2, 16, WIDTH, dtype=torch.bfloat16), ["e2m1", "e1m2", "mxfp4"], seed=1))
    safetensors.save_file({"layers.0.up": model.layers[0].up.weight.detach()}, tmp_path / "up.safetensors")
    done = subprocess.run([program, "analyze", tmp_path / "up.safetensors", "--formats", "e2m1,e1m2,mxfp4", "--seed", "1", "--json"],
                          capture_output=True, text=True, check=True)
    measured, = json.loads(done.stdout)["tensors"]
    found = {(scheme["format"], scheme["hadamard"]): scheme for scheme in measured["schemes"]}
    mine = {(row["format"], row["hadamard"]): row for row in rows if (row["layer"], row["operand"]) == ("layers.0.up", "fprop.w")}
    assert set(mine) <= set(found) and len(mine) == 6
    for key, row in mine.items():
        for figure in ("sqnr_db", "alpha", "nmse"):
            assert row[figure] == pytest.approx(found[key][figure], rel=1e-4), (key, figure)
        assert row["crest"] == pytest.approx(measured["crest"], rel=1e-4)


def test_measurements_are_drawn():
    pytest.importorskip("plotly")
    figures = analysis.plots(ufp4.analyze(net(2), normal(2, 16, WIDTH), ["e2m1", "e1m2"]))
    assert set(figures) == {"arrows", "gain"} and len(figures["gain"].data) == 2
    # One line for the same layer of all blocks.
    assert list(figures["arrows"].layout.yaxis.ticktext) == ["up fprop.x", "up fprop.w", "down fprop.x", "down fprop.w", "lm_head fprop.x", "lm_head fprop.w"]
    assert analysis.plots(ufp4.analyze(net(1), normal(2, 16, WIDTH), ["e2m1"], hadamard=0)) == {}


@pytest.mark.parametrize("name, kind", [
    ("model.layers.3.mlp.up", "mlp.up"), ("blocks.0.up", "up"), ("transformer.h.11.mlp.c_fc", "transformer.mlp.c_fc"),
    ("encoder.layers.0.attn", "encoder.attn"), ("layers.0.mlp.experts.3.w1", "mlp.experts.3.w1"), ("head", "head")])
def test_a_kind_is_the_layer_of_all_blocks(name, kind):
    from ufp4.measurements import Measured

    assert Measured(name, "", 1.0, 1, []).kind == kind


def test_every_kind_of_a_large_model_is_drawn():
    pytest.importorskip("plotly")
    model = torch.nn.Sequential(*(torch.nn.Linear(32, 32) for _ in range(20)))
    table = ufp4.analyze(model, normal(16, 32), ["e1m2"], loss=lambda y: y.square().mean())
    assert len(analysis.plots(table)["arrows"].layout.yaxis.ticktext) == 20 * 6


def test_what_cannot_be_measured():
    with pytest.raises(ufp4.InputError, match="unknown format 'e9'"):
        ufp4.analyze(net(1), normal(2, 16, WIDTH), ["e9"])
    with pytest.raises(ufp4.InputError, match="no torch.nn.Linear"):
        ufp4.analyze(torch.nn.ReLU(), normal(2, 16, WIDTH))


def test_a_table_prints():
    text = str(analysis.Table([{column: 1.0 for column in analysis.COLUMNS}]))
    assert text.splitlines()[0].split()[:2] == ["layer", "operand"] and len(text.splitlines()) == 2
