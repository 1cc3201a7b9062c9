"""torch.ops.ufp4.* as a Python program sees them."""

from pathlib import Path

import pytest
import torch

UFP4 = "*.*.format = e1m2; *.hadamard = 16; *.dy.rounding = sr"
BF16 = ""
E1M2 = "e1m2", "e1m2"
STEP_ELSEWHERE = torch.zeros(1, dtype=torch.int32, device="meta")
ELSEWHERE = "step_tensor is on meta, expected cpu, the device of the data"


def normal(*shape, seed=0, dtype=torch.bfloat16):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("format", ["e1m2", "int4_full", "e2m1"])
def test_codes_and_scales_are_those_of_the_format(ops, dtype, format):
    x = normal(5, 32, dtype=dtype)
    codes, scales, outer = ops.quantize(x, format)
    assert outer.numel() == 0
    levels = {"e1m2": [0, .25, .5, .75, 1, 1.25, 1.5, 1.75], "e2m1": [0, .5, 1, 1.5, 2, 3, 4, 6]}
    if format == "int4_full":
        values = torch.tensor([0., 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1])
    else:
        values = torch.tensor(levels[format] + [-v for v in levels[format]])
        amax = x.float().view(5, 2, 16).abs().amax(-1)
        assert torch.equal(scales, amax / values.max())
    unpacked = torch.stack([codes & 15, codes >> 4], dim=-1).view(5, 32).long()
    expected = values[unpacked] * scales.repeat_interleave(16, dim=1)
    assert torch.equal(ops.dequantize(codes, scales, format, dtype=torch.float32), expected)
    assert (expected - x.float()).abs().max() <= scales.abs().max() * (1 if format == "e2m1" else 0.5) + 1e-6


def test_column_is_row_of_the_transpose(ops):
    x = normal(50, 37)
    arguments = dict(hadamard=16, hadamard_seed=3, rounding="sr", seed=5, step=2, stream=9, row_offset=4, column_offset=16)
    column = ops.quantize(x, "e1m2", axis="column", **arguments)
    row = ops.quantize(x.t().contiguous(), "e1m2", **arguments)
    strided = ops.quantize(x.t(), "e1m2", **arguments)
    for a, b, c in zip(column, row, strided):
        assert torch.equal(a, b) and torch.equal(a, c)
    assert column[0].shape == (37, 32) and column[1].shape == (37, 4)


def test_both_orientations_are_the_two_alone(ops):
    x = normal(300, 200)
    random = dict(hadamard_seed=3, seed=5, step=2)
    row = ops.quantize_dequantize(x, "e1m2", hadamard=16, rounding="sr", stream=1, row_offset=7, **random)
    codes, scales, outer = ops.quantize(x, "e2m1", axis="column", block=32, stream=2, column_offset=7, **random)
    shared = dict(row_hadamard=16, row_rounding="sr", row_stream=1, column_block=32, column_stream=2, row_offset=7)
    both = ops.quantize_both(x, "e1m2", "e2m1", **shared, **random)
    for found, expected in zip(both, (row, codes, scales, outer)):
        assert torch.equal(found, expected)
    dense = ops.quantize_both(x, "e1m2", "e2m1", packed=False, **shared, **random)[1]
    assert torch.equal(dense, ops.dequantize(codes, scales, "e2m1", block=32))


def expect_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


LAYER = dict(row_hadamard=16, row_rounding="sr", row_stream=1, column_block=32, column_stream=2, row_offset=7, seed=5)


# Inputs whose layers are known to the bit: rows of one magnitude, which the norm makes one, and gates so large that the
# sigmoid is one.
def known_layers(ops):
    x = 4 * normal(40, 32).sign()
    weight = normal(32, dtype=torch.float32)
    gate, up = 100 + 4 * normal(40, 32, seed=1).round(), normal(40, 32, seed=2)
    dy = normal(40, 32, seed=3)
    h = torch.cat([gate, up], dim=1)
    yield (lambda *a, **k: ops.rms_norm_quantize_both(x, weight, 0.0, *a, **k)), (x.float() / 4 * weight).bfloat16()
    yield (lambda *a, **k: ops.swiglu_quantize_both(h, *a, **k)), gate * up
    yield (lambda *a, **k: ops.swiglu_backward_quantize_both(dy, h, *a, **k)), torch.cat([dy * up, dy * gate], dim=1)


@pytest.mark.parametrize("formats", [("e1m2", "e2m1"), ("int4_p2", "nvfp4")])
@pytest.mark.parametrize("packed", [True, False])
def test_layers_are_quantized_as_what_they_make(ops, formats, packed):
    for layer, made in known_layers(ops):
        expect_equal(layer(*formats, packed=packed, **LAYER), ops.quantize_both(made, *formats, packed=packed, **LAYER))
        steps = dict(step_tensor=torch.tensor([3], dtype=torch.int32)), dict(step=3)
        expect_equal(*(layer(*formats, packed=packed, **LAYER, **step) for step in steps))


def test_layers_have_shapes_without_memory(ops):
    x, weight, h = normal(50, 36), normal(36, dtype=torch.float32), normal(50, 72)
    for name, inputs, extra in [("rms_norm", (x, weight), (1e-5,)), ("swiglu", (h,), ()), ("swiglu_backward", (x, h), ())]:
        layer = getattr(ops, name + "_quantize_both")
        for keywords in dict(), dict(packed=False), dict(column_outer="1x128", row_hadamard=64):
            found = layer(*(t.to("meta") for t in inputs), *extra, "e2m1", "int4_p2", **keywords)
            expected = layer(*inputs, *extra, "e2m1", "int4_p2", **keywords)
            assert [(t.shape, t.dtype) for t in found] == [(t.shape, t.dtype) for t in expected]
            assert all(t.is_meta for t in found)


@pytest.mark.parametrize("format", ["nvfp4", "nvint4", "mxfp4", "mxint4", "four_over_six", "mixfp4", "hif4", "int4_p2", "int4_i4"])
def test_scales_in_bytes_come_back(ops, format):
    x = normal(200, 130)
    codes, scales, outer = ops.quantize(x, format)
    shapes = {"mxfp4": (0, 0), "mxint4": (0, 0), "hif4": (0, 0), "int4_i4": (200, 1)}
    assert scales.dtype == torch.uint8 and outer.shape == shapes.get(format, (1, 1))
    assert torch.equal(ops.dequantize(codes, scales, format, outer_scales=outer), ops.quantize_dequantize(x, format))
    if format == "nvfp4":  # the bytes are E4M3 numbers
        assert scales.view(torch.float8_e4m3fn).float().max() == 448
        assert torch.equal(outer, (x.float().abs().max() / 2688).view(1, 1))
    if format == "int4_p2":
        assert (scales.view(torch.float8_e4m3fn).float().abs().log2() % 1 == 0).all()
    if format == "int4_i4":
        assert scales.view(torch.int8).abs().max() == 15


@pytest.mark.parametrize("outer, shape", [("row", (200, 1)), ("1x128", (200, 2)), ("128x128", (2, 2))])
def test_outer_scales_have_their_shapes(ops, outer, shape):
    x = normal(200, 130)
    codes, scales, found = ops.quantize(x, "int4_p2", outer=outer)
    assert found.shape == shape
    assert torch.equal(ops.dequantize(codes, scales, "int4_p2", outer_scales=found, outer=outer),
                       ops.quantize_dequantize(x, "int4_p2", outer=outer))


@pytest.mark.parametrize("outer, segments", [("row", 1), ("1x128", 11), ("1x256", 6), ("1x512", 3), ("1x1024", 2), ("own", 3)])
def test_segments_have_their_shapes(ops, outer, segments):
    x = normal(40, 1300)
    codes, scales, found = ops.quantize(x, "int4_i4", outer=outer)
    assert found.shape == (40, segments)
    shape = ops.quantize(x.to("meta"), "int4_i4", outer=outer)[2]
    assert shape.shape == found.shape and shape.is_meta
    assert torch.equal(ops.dequantize(codes, scales, "int4_i4", outer_scales=found, outer=outer),
                       ops.quantize_dequantize(x, "int4_i4", outer=outer))
    with pytest.raises(RuntimeError, match="expected Float"):
        ops.dequantize(codes, scales, "int4_i4", outer_scales=found[:, :0], outer=outer)
    with pytest.raises(RuntimeError, match="no second-level scale for each tensor; it has row, 1x128, 1x256, 1x512, 1x1024"):
        ops.quantize(x, "int4_i4", outer="tensor")


def test_linear_without_a_recipe_is_torchs_own(ops):
    x, w = normal(33, 48).requires_grad_(), normal(24, 48, seed=1).requires_grad_()
    x2, w2 = x.detach().clone().requires_grad_(), w.detach().clone().requires_grad_()
    gradient = normal(33, 24, seed=2)
    y = ops.linear(x, w, BF16)
    expected = torch.nn.functional.linear(x2, w2)
    y.backward(gradient)
    expected.backward(gradient)
    assert torch.equal(y, expected) and torch.equal(x.grad, x2.grad) and torch.equal(w.grad, w2.grad)


def test_linear_is_its_three_gemms(ops):
    x, w = normal(48, 32).requires_grad_(), normal(64, 32, seed=1, dtype=torch.float32).requires_grad_()
    dy = normal(48, 64, seed=2)
    y = ops.linear(x, w, UFP4, layer=2, seed=7, step=3, token_offset=48)
    y.backward(dy)

    def q(t, operand, rounding="rtne", **offset):
        return ops.quantize_dequantize(t.detach().contiguous(), "e1m2", hadamard=16, hadamard_seed=7, seed=7, step=3,
                                       stream=16 + operand, rounding=rounding, **offset)

    w16 = w.detach().bfloat16()
    assert torch.equal(y, q(x, 0, row_offset=48) @ q(w16, 1).t())
    assert torch.equal(x.grad, q(dy, 2, "sr", row_offset=48) @ q(w16.t(), 3).t())
    assert w.grad.dtype == torch.float32
    # In FP32: the sums themselves, which another order of them changes by little.
    expected = q(dy.t(), 4, "sr", column_offset=48).double() @ q(x.t(), 5, column_offset=48).double().t()
    assert (w.grad.double() - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize("text, same", [
    ("ufp4", UFP4), ("bf16", BF16), (" ufp4 ; *.hadamard = 0 ", "*.*.format = e1m2; *.dy.rounding = sr"),
    ("bf16; " + UFP4, UFP4)])
def test_linear_takes_a_recipe_by_name(ops, text, same):
    found, expected = [], []
    for recipe, results in (text, found), (same, expected):
        x, w = normal(48, 32).requires_grad_(), normal(64, 32, seed=1).requires_grad_()
        y = ops.linear(x, w, recipe, layer=2, seed=7, step=3)
        y.backward(normal(48, 64, seed=2))
        results += y, x.grad, w.grad
    expect_equal(found, expected)


def test_every_recipe_that_is_compiled_in_is_known_by_name(ops):
    x, w = normal(64, 64), normal(64, 64, seed=1)
    exact = ops.linear(x, w, "bf16")
    recipes = [path.stem for path in (Path(__file__).parents[2] / "recipes").glob("*.toml")]
    assert len(recipes) > 10
    for name in recipes:
        assert torch.equal(ops.linear(x, w, name), exact) == (name == "bf16"), name


def test_compiles_with_symbolic_shapes(ops):
    w = normal(24, 48, dtype=torch.float32).requires_grad_()

    def loss(x):
        return ops.linear(x, w, UFP4, layer=0, step=1).float().square().sum()

    compiled = torch.compile(loss, backend="aot_eager", dynamic=True, fullgraph=True)
    for tokens in (33, 50):
        x = normal(tokens, 48)
        loss(x).backward()
        expected, w.grad = w.grad, None
        compiled(x).backward()
        assert torch.equal(w.grad, expected)
        w.grad = None


def test_operators_are_registered_as_torch_expects(ops):
    x = normal(20, 40)
    codes, scales, _ = ops.quantize(x, "e1m2")
    torch.library.opcheck(ops.quantize.default, (x, "e1m2"), dict(axis="column"))
    torch.library.opcheck(ops.quantize_dequantize.default, (x, "e1m2"), dict(hadamard=64))
    torch.library.opcheck(ops.quantize_both.default, (x, "e1m2", "e2m1"))
    torch.library.opcheck(ops.dequantize.default, (codes, scales, "e1m2"))
    weight = normal(40, dtype=torch.float32)
    for packed in True, False:
        keywords = dict(row_hadamard=16, step_tensor=torch.tensor([3], dtype=torch.int32), packed=packed)
        torch.library.opcheck(ops.quantize_both.default, (x, "e1m2", "e2m1"), keywords)
        torch.library.opcheck(ops.rms_norm_quantize_both.default, (x, weight, 1e-5, "e1m2", "e2m1"), keywords)
        torch.library.opcheck(ops.swiglu_quantize_both.default, (x, "e1m2", "int4_p2"), keywords)
        torch.library.opcheck(ops.swiglu_backward_quantize_both.default, (x[:, :20], x, "e1m2", "hif4"), keywords)
    codes, scales, outer = ops.quantize(x, "int4_p2", outer="1x128")
    torch.library.opcheck(ops.quantize.default, (x, "int4_p2"), dict(outer="128x128", tau=1.0))
    torch.library.opcheck(ops.dequantize.default, (codes, scales, "int4_p2"), dict(outer_scales=outer, outer="1x128"))


@pytest.mark.parametrize("call, message", [
    (lambda o, x, w: o.quantize(x, "e1m3"), "unknown format 'e1m3' \\(did you mean 'e1m2'"),
    (lambda o, x, w: o.quantize(x.int(), "e1m2"), "x is Int, expected Float, BFloat16 or Half"),
    (lambda o, x, w: o.quantize(x[0], "e1m2"), "x has 1 dimensions, expected a matrix"),
    (lambda o, x, w: o.quantize(x, "e1m2", block=17), "block size 17"),
    (lambda o, x, w: o.quantize(x, "e1m2", axis="rows"), "axis 'rows' is neither"),
    (lambda o, x, w: o.quantize(x, "e1m2", rounding="up"), "rounding 'up' is neither"),
    (lambda o, x, w: o.quantize(x, "e1m2", step=-1), "step is -1"),
    (lambda o, x, w: o.quantize_dequantize(x, "e1m2", dtype=torch.float16), "expected Float or BFloat16"),
    (lambda o, x, w: o.dequantize(x, x, "e1m2"), "expected Byte and Float"),
    (lambda o, x, w: o.dequantize(*o.quantize(x, "nvfp4")[:2], "nvfp4"), "needs its outer scales: expected Float"),
    (lambda o, x, w: o.quantize(x, "nvfp4", outer="row"), "'nvfp4' has no second-level scale for each row"),
    (lambda o, x, w: o.quantize(x, "int4_p2", outer="1x12"), "'1x12' .did you mean '1x128'"),
    (lambda o, x, w: o.quantize(x, "int4_p2", tau=2.0), "tau 2"),
    (lambda o, x, w: o.quantize_both(x, "e1m2", "e1m2", column_hadamard=17), "Hadamard size 17"),
    (lambda o, x, w: o.quantize(x, "e1m2", step_tensor=torch.zeros(2)), "step_tensor is Float with 2 elements"),
    (lambda o, x, w: o.quantize(x, "e1m2", step_tensor=STEP_ELSEWHERE), ELSEWHERE),
    (lambda o, x, w: o.quantize_dequantize(x, "e1m2", step_tensor=STEP_ELSEWHERE), ELSEWHERE),
    (lambda o, x, w: o.quantize_both(x, *E1M2, step_tensor=STEP_ELSEWHERE), ELSEWHERE),
    (lambda o, x, w: o.rms_norm_quantize_both(x, w[0].float(), 1e-5, *E1M2, step_tensor=STEP_ELSEWHERE), ELSEWHERE),
    (lambda o, x, w: o.swiglu_quantize_both(x, *E1M2, step_tensor=STEP_ELSEWHERE), ELSEWHERE),
    (lambda o, x, w: o.rms_norm_quantize_both(x.float(), w[0], 1e-5, *E1M2), "x is Float, expected BFloat16"),
    (lambda o, x, w: o.rms_norm_quantize_both(x[0], w[0], 1e-5, *E1M2), "x has 1 dimensions, expected a matrix"),
    (lambda o, x, w: o.rms_norm_quantize_both(x, w[0], 1e-5, *E1M2),
     r"the weight is BFloat16 \[32\], expected Float \[32\]"),
    (lambda o, x, w: o.rms_norm_quantize_both(x, w[0, :31].float(), 1e-5, *E1M2),
     r"the weight is Float \[31\], expected Float \[32\]"),
    (lambda o, x, w: o.rms_norm_quantize_both(x, w[0].float().to("meta"), 1e-5, *E1M2),
     "x is on cpu, the weight on meta"),
    (lambda o, x, w: o.rms_norm_quantize_both(x, w[0].float(), -1.0, *E1M2), "epsilon is -1, expected a finite number"),
    (lambda o, x, w: o.rms_norm_quantize_both(x, w[0].float(), 1e-5, "e1m2", "e1m3"), "unknown format 'e1m3'"),
    (lambda o, x, w: o.swiglu_quantize_both(x.half(), *E1M2), "h is Half, expected BFloat16"),
    (lambda o, x, w: o.swiglu_quantize_both(x[:, :31], *E1M2), "h has 31 columns, expected an even number"),
    (lambda o, x, w: o.swiglu_quantize_both(x, *E1M2, row_rounding="up"), "rounding 'up' is neither"),
    (lambda o, x, w: o.swiglu_backward_quantize_both(x, x, *E1M2),
     r"dy is \[16, 32\], expected \[16, 16\], half the columns of h"),
    (lambda o, x, w: o.swiglu_backward_quantize_both(x[:, :16].float(), x, *E1M2), "dy is Float, expected BFloat16"),
    (lambda o, x, w: o.linear(x.half(), w, UFP4), "x is Half, expected BFloat16 or Float"),
    (lambda o, x, w: o.linear(x, w.half(), UFP4), "the weight is Half, expected BFloat16 or Float"),
    (lambda o, x, w: o.linear(x, w[:, :3], UFP4), "is not that of the weight"),
    (lambda o, x, w: o.linear(x, w, "fprop.y.format = e1m2"), "unknown recipe key 'fprop.y.format'"),
    (lambda o, x, w: o.linear(x, w, "ufp_p2"), "unknown recipe 'ufp_p2' .did you mean 'ufp4_p2'"),
    (lambda o, x, w: o.linear(x, w, "ufp4; e2m1"), "recipe entry 'e2m1' is not of the form key = value"),
    (lambda o, x, w: o.linear(x, w.to("meta"), UFP4), "x is on cpu, the weight on meta"),
])
def test_errors_name_what_is_wrong(ops, call, message):
    with pytest.raises(RuntimeError, match=message):
        call(ops, normal(16, 32), normal(8, 32))
