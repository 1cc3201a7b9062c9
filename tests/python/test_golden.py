"""`ufp4 quantize` against what other people's packages give (the scripts of tests/golden), code for code."""

import pathlib
import subprocess

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def quantize(ufp4, tmp_path, values, fmt, *options):
    save_file({"x": values}, tmp_path / "in.safetensors")
    command = [ufp4, "quantize", tmp_path / "in.safetensors", tmp_path / "out.safetensors", "--format", fmt, *options]
    subprocess.run(command, check=True, capture_output=True)
    return load_file(tmp_path / "out.safetensors")


def without_negative_zero(codes):
    low, high = codes & 15, codes >> 4
    return np.where(low == 8, 0, low) | (np.where(high == 8, 0, high) << 4)


def e8m0(bits):
    return np.exp2(bits.astype(np.float64) - 127).astype(np.float32)


def e4m3(bits):
    exponent, mantissa = (bits >> 3).astype(np.int32), (bits & 7).astype(np.float64)
    value = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * np.exp2(exponent - 10.0))
    return value.astype(np.float32)


def test_mxfp4_is_torchaos(ufp4, tmp_path):
    golden = load_file(GOLDEN / "torchao_mxfp4.safetensors")
    ours = quantize(ufp4, tmp_path, golden["input"], "mxfp4")
    shape = ours["x.scales"].shape
    np.testing.assert_array_equal(ours["x.scales"], e8m0(golden["scales"]).reshape(shape))
    np.testing.assert_array_equal(ours["x.codes"], without_negative_zero(golden["codes"].reshape(ours["x.codes"].shape)))
    assert ours["x.global_scale"] == 1


def test_nvfp4_is_torchaos_where_its_scale_has_no_floor(ufp4, tmp_path):
    """torchao lets no E4M3 scale fall below 2^-6; TransformerEngine's reference, which nvfp4 follows, does."""
    golden = load_file(GOLDEN / "torchao_nvfp4.safetensors")
    ours = quantize(ufp4, tmp_path, golden["input"], "nvfp4")
    theirs = e4m3(golden["scales"]).reshape(ours["x.scales"].shape)
    at_floor = ours["x.scales"] < 2.0**-6
    assert 0 < at_floor.mean() < 0.05
    assert (theirs[at_floor] == 2.0**-6).all()
    np.testing.assert_array_equal(ours["x.scales"][~at_floor], theirs[~at_floor])
    codes = without_negative_zero(golden["codes"].reshape(ours["x.codes"].shape))
    same = np.repeat(~at_floor, 8, axis=1)
    np.testing.assert_array_equal(ours["x.codes"][same], codes[same])


def test_nvint4_is_fouroversixs(ufp4, tmp_path):
    golden = load_file(GOLDEN / "fouroversix.safetensors")
    ours = quantize(ufp4, tmp_path, golden["input"], "nvint4")
    np.testing.assert_array_equal(ours["x.scales"], e4m3(golden["nvint4.scales"]))
    np.testing.assert_array_equal(ours["x.codes"], golden["nvint4.codes"])


def test_four_over_six_is_fouroversixs_where_a_scale_does_not_underflow(ufp4, tmp_path):
    """fouroversix writes codes 0 where a scale is 0, does not saturate, and adds errors in torch's order; ours are those of
    TransformerEngine's variant, which keeps such codes, saturates, and adds in the order of the elements."""
    golden = load_file(GOLDEN / "fouroversix.safetensors")
    ours = quantize(ufp4, tmp_path, golden["input"], "four_over_six")
    theirs = e4m3(golden["four_over_six.scales"])
    same = ours["x.scales"] == theirs
    assert same.mean() > 0.99
    assert (theirs[~same] < 2.0**-6).all()  # few bits of scale: values beyond 6, which it makes 8
    compared = np.repeat(same & (theirs != 0), 8, axis=1)
    assert compared.mean() > 0.94
    np.testing.assert_array_equal(ours["x.codes"][compared], without_negative_zero(golden["four_over_six.codes"])[compared])


@pytest.fixture(scope="module")
def peers():
    return load_file(GOLDEN / "peers.safetensors")


@pytest.mark.parametrize("fmt, name, options", [
    ("nvfp4", "nvfp4", []),
    ("four_over_six", "four_over_six", []),
    # Its matrix multiplies rows by signs + + + - + - - - - - - + - + - -, and its result is BF16.
    ("nvfp4", "nvfp4_rht", ["--axis", "column", "--hadamard", "16", "--signs", "0xD7E8", "--hadamard-output", "bf16"]),
])
def test_nvfp4_and_its_kin_are_transformer_engines(ufp4, tmp_path, peers, fmt, name, options):
    """Every scale and every code of its reference, down to scales that are subnormal or zero."""
    ours = quantize(ufp4, tmp_path, peers["tensor"], fmt, *options)
    np.testing.assert_array_equal(ours["x.scales"], e4m3(peers[f"transformer_engine.{name}.scales"]))
    np.testing.assert_array_equal(ours["x.codes"], without_negative_zero(peers[f"transformer_engine.{name}.codes"]))
    if name == "nvfp4":
        assert 0.05 < (ours["x.scales"] == 0).mean() < 0.2


def test_nvfp4_is_auto_rounds(ufp4, tmp_path, peers):
    """The same scales; its values are divided by the reciprocal of the scale, ours multiplied by the scale."""
    ours = quantize(ufp4, tmp_path, peers["tensor"], "nvfp4")
    np.testing.assert_array_equal(ours["x.scales"], e4m3(peers["auto_round.nvfp4.scales"]))
    np.testing.assert_allclose(ours["x.dequant"], peers["auto_round.nvfp4.values"], rtol=2e-7, atol=0)


def test_nvfp4_is_model_optimizers_where_its_scale_has_no_floor(ufp4, tmp_path, peers):
    """Model Optimizer lets no scale fall below the least E4M3 number, and gives blocks of zeros the scale 1."""
    ours = quantize(ufp4, tmp_path, peers["tensor"], "nvfp4")
    theirs = e4m3(peers["modelopt.nvfp4.scales"])
    zero = ours["x.scales"] == 0
    empty = (peers["tensor"].reshape(48, 8, 16) == 0).all(axis=2)
    np.testing.assert_array_equal(theirs, np.where(empty, 1, np.where(zero, np.float32(2.0**-9), ours["x.scales"])))
    codes = without_negative_zero(peers["modelopt.nvfp4.codes"])
    same = np.repeat(~zero, 8, axis=1)
    np.testing.assert_array_equal(ours["x.codes"][same], codes[same])


@pytest.mark.parametrize("package", ["auto_round", "gfloat"])
def test_mxfp4_has_the_values_of_others(ufp4, tmp_path, peers, package):
    ours = quantize(ufp4, tmp_path, peers["inputs"], "mxfp4")
    np.testing.assert_array_equal(ours["x.dequant"], peers[f"{package}.mxfp4.values"])


@pytest.mark.parametrize("fmt, of_zeros", [("mxfp4", 0.5), ("mxint4", 2)])
def test_scales_of_mx_are_auto_rounds_but_for_blocks_of_zeros(ufp4, tmp_path, peers, fmt, of_zeros):
    """OCP's exponent of a block of zeros is the least there is; auto-round's code, after microxcaling's, takes 1's."""
    ours = quantize(ufp4, tmp_path, peers["inputs"], fmt)["x.scales"]
    empty = ours == np.float32(2.0**-127)
    assert empty.sum() == 4
    np.testing.assert_array_equal(np.where(empty, np.float32(of_zeros), ours), e8m0(peers[f"auto_round.{fmt}.scales"]))


def test_mxint4_has_auto_rounds_values(ufp4, tmp_path, peers):
    """auto-round's mx_int4 is microxcaling's int4 with mantissas rounded half to even."""
    ours = quantize(ufp4, tmp_path, peers["inputs"], "mxint4")
    np.testing.assert_array_equal(ours["x.dequant"], peers["auto_round.mxint4.values"])


def test_other_rules_for_the_scale_of_mxfp4(ufp4, tmp_path, peers):
    """OCP's rule takes the exponent of a block's largest value. compressed-tensors first rounds that value to one bit of
    mantissa, so that from 7 / 4 on the scale doubles; Model Optimizer takes the least scale at which nothing clips."""
    ours = quantize(ufp4, tmp_path, peers["inputs"], "mxfp4")["x.scales"]
    amax = np.abs(peers["inputs"]).reshape(48, 4, 32).max(axis=2)
    some = amax != 0
    relative = amax[some] / ours[some] / 4
    assert relative.min() >= 1 and relative.max() < 2
    rounded = e8m0(peers["compressed_tensors.mxfp4.scales"])[some]
    np.testing.assert_array_equal(rounded, np.where(relative >= 1.75, 2, 1) * ours[some])
    unclipped = e8m0(peers["modelopt.mxfp4.scales"].reshape(48, 4))[some]
    np.testing.assert_array_equal(unclipped, np.where(relative > 1.5, 2, 1) * ours[some])


@pytest.mark.parametrize("fmt", ["nvfp4", "nvint4", "four_over_six", "mixfp4", "mxfp4", "mxint4", "int4_p2", "hif4"])
@pytest.mark.parametrize("axis", ["row", "column"])
def test_a_file_in_tiles_has_the_bits_of_codes_and_scales(ufp4, tmp_path, fmt, axis):
    """Large enough for several tiles: the tensor's amax must not be that of a tile."""
    values = np.random.default_rng(5).standard_normal((600, 2080), dtype=np.float32)
    values[300:] *= 100
    save_file({"x": values}, tmp_path / "in.safetensors")
    command = [ufp4, "quantize", tmp_path / "in.safetensors", tmp_path / "out.safetensors", "--format", fmt, "--axis", axis]
    subprocess.run(command, check=True, capture_output=True)
    out = load_file(tmp_path / "out.safetensors")
    operand = values if axis == "row" else values.T
    dequant = out["x.dequant"][:, : operand.shape[1]]
    assert dequant.shape == operand.shape
    error = np.square(dequant - operand, dtype=np.float64).sum() / np.square(operand, dtype=np.float64).sum()
    assert error < 0.03
    if fmt not in ("mixfp4", "hif4"):
        levels = {"mxint4": np.arange(8) / 4, "nvint4": np.arange(8.0), "int4_p2": np.arange(8.0)}.get(
            fmt, np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6]))
        table = np.concatenate([levels, -levels]) if fmt not in ("mxint4", "nvint4", "int4_p2") else np.concatenate(
            [levels, -levels[:1] - 8 * levels[1], -levels[:0:-1]])
        codes = np.stack([out["x.codes"] & 15, out["x.codes"] >> 4], axis=-1).reshape(out["x.dequant"].shape)
        block = out["x.dequant"].shape[1] // out["x.scales"].shape[1]
        value = table.astype(np.float32)[codes] * np.repeat(out["x.scales"], block, axis=1) * out["x.global_scale"]
        np.testing.assert_array_equal(value, out["x.dequant"])
    amax = np.abs(values).max()
    divisor = {"nvfp4": 2688, "nvint4": 3136, "four_over_six": 1536, "mixfp4": 2688, "int4_p2": 224}.get(fmt)
    assert out["x.global_scale"] == (np.float32(1) if divisor is None else amax / np.float32(divisor))
