"""`ufp4 quantize` against the independent program: the same bits for every format, rounding, transform, axis, backend."""

import itertools
import json
import subprocess

import independent
import numpy as np
import pytest
from independent import Spec
from safetensors import safe_open

SHAPES = [(1, 1), (3, 16), (17, 33), (40, 130), (5, 257), (128, 64), (2, 1300)]


# ---- files -------------------------------------------------------------------------------------------------------

def write_safetensors(path, tensors):
    """tensors: name -> (dtype, array), BF16 as uint16. The safetensors package has no BF16 for numpy."""
    header, blobs, offset = {}, [], 0
    for name, (dtype, array) in tensors.items():
        blob = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def read_safetensors(path):
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


# ---- data --------------------------------------------------------------------------------------------------------

def as_dtype(values, dtype):
    """float64 values as the bits of dtype."""
    with np.errstate(all="ignore"):
        f32 = values.astype(np.float32)
        if dtype == "F16":
            return f32.astype(np.float16)
        if dtype == "BF16":
            bits = f32.view(np.uint32).astype(np.uint64)
            rounded = (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)
            return np.where(np.isnan(f32), 0x7FC0, rounded).astype(np.uint16)
        return f32


def hostile(rng, shape):
    """Everything that has broken a quantizer before, in one matrix."""
    fmax = float(np.finfo(np.float32).max)
    special = [np.nan, np.inf, -np.inf, fmax, -fmax, 65504, 2.0**-149, -(2.0**-127), 2.0**-120, -(2.0**-120), 0.0, -0.0,
               float(np.nextafter(np.float32(2.0**-120), np.float32(0)))]
    values = rng.normal(size=shape) * 2.0 ** rng.integers(-130, 120, size=(shape[0], 1))
    if shape[0] > 2:
        values[rng.integers(shape[0])] = 0
        values[rng.integers(shape[0])] = -0.0
    for _ in range(max(1, values.size // 60)):
        values[rng.integers(shape[0]), rng.integers(shape[1])] = special[rng.integers(len(special))]
    return values


def ties(rng, shape):
    """Multiples of 1/8 under extremes that make the scale a power of two: values on levels and half way between."""
    values = rng.integers(-60, 61, size=shape) / 8
    values[:, ::16] = rng.choice([7, -7, 6, -6, 1.75, 8, -8, 4], size=values[:, ::16].shape)
    values = values * 2.0 ** rng.integers(-20, 20, size=(shape[0], 1))
    neighbours = rng.integers(-1, 2, size=shape)
    f32 = values.astype(np.float32)
    f32 = np.where(neighbours < 0, np.nextafter(f32, np.float32(-np.inf)), f32)
    return np.where(neighbours > 0, np.nextafter(f32, np.float32(np.inf)), f32).astype(np.float64)


def make_tensors():
    rng = np.random.default_rng(20260620)
    kinds = {
        "normal": lambda shape: rng.normal(size=shape),
        "heavy": lambda shape: rng.standard_t(1.5, size=shape) * 10,
        "hostile": lambda shape: hostile(rng, shape),
        "ties": lambda shape: ties(rng, shape),
        "tiny": lambda shape: rng.normal(size=shape) * 2.0**-122,
    }
    tensors = {}
    for (kind, make), dtype, shape in itertools.product(kinds.items(), ["F32", "F16", "BF16"], SHAPES):
        tensors[f"{kind}.{dtype}.{shape[0]}x{shape[1]}"] = (dtype, as_dtype(make(shape), dtype))
    for rows, columns in [(0, 5), (4, 0)]:
        tensors[f"empty.{rows}x{columns}"] = ("F32", np.zeros((rows, columns), np.float32))
    every = np.arange(65536, dtype=np.uint16).reshape(512, 128)
    tensors["every.BF16"] = ("BF16", every)
    tensors["every.F16"] = ("F16", every.view(np.float16))
    return tensors


# ---- the comparison ----------------------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def tensors():
    return make_tensors()


@pytest.fixture(scope="session")
def source(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("quantize") / "in.safetensors"
    write_safetensors(path, tensors)
    return path


def available_backends(info):
    """The names of the backends that `ufp4 info --json` reports as available."""
    return [backend["name"] for backend in info["backends"] if backend["available"]]


def arguments(spec):
    args = ["--format", spec.format, "--block", str(spec.block), "--axis", "column" if spec.column else "row"]
    args += ["--rounding", "sr" if spec.stochastic else "rtne"]
    args += ["--seed", str(spec.seed), "--step", str(spec.step), "--stream", str(spec.stream)]
    if spec.hadamard:
        args += ["--hadamard", str(spec.hadamard)]
        if spec.signs is not None:
            args += ["--signs", hex(spec.signs)]
    if spec.outer:
        args += ["--outer", spec.outer]
    return args


def first_difference(found, expected):
    """None, or where two arrays differ in a bit; every NaN counts as the same."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"{found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}"
    differs = found != expected
    if found.dtype == np.float32:
        differs = (found.view(np.uint32) != expected.view(np.uint32)) & ~(np.isnan(found) & np.isnan(expected))
    if not differs.any():
        return None
    at = tuple(int(i) for i in np.argwhere(differs)[0])
    return f"first of {int(differs.sum())} at {at}: {found[at]!r}, expected {expected[at]!r}"


def specs():
    seeds = itertools.count(1)
    for name, stochastic, size, column in itertools.product(
        independent.LEVELS, [False, True], [0, 16, 32, 64, 128], [False, True]
    ):
        n = next(seeds)
        block = [16, 32, 64, 128][n % 4] if n % 3 == 0 else 16
        signs = (0xB5297A4D_68E31DA4_1B56C4E9_7FEB352D * n) % (1 << size) if size and n % 2 else None
        yield Spec(name, block, stochastic, size, signs, column, seed=n * 0x9E3779B97F4A7C15 % 2**64, step=n, stream=8 * n)


def spec_name(spec):
    rounding = "sr" if spec.stochastic else "rtne"
    return f"{spec.format}-b{spec.block}-{rounding}-h{spec.hadamard}-{'column' if spec.column else 'row'}"


@pytest.mark.parametrize("spec", list(specs()), ids=spec_name)
def test_same_bits(ufp4, backends, source, tensors, tmp_path, spec):
    expected = {name: independent.quantize(array, dtype, spec) for name, (dtype, array) in tensors.items()}
    for backend in backends:
        out = tmp_path / f"{backend}.safetensors"
        command = [ufp4, "quantize", str(source), str(out), *arguments(spec), "--backend", backend]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
        found = read_safetensors(out)
        assert len(found) == 4 * len(tensors)
        for name, operand in expected.items():
            for part in ("codes", "scales", "dequant"):
                difference = first_difference(found[f"{name}.{part}"], getattr(operand, part))
                assert difference is None, f"{backend}: {name}.{part}: {difference}"
            assert found[f"{name}.global_scale"] == np.float32(1)
            assert found[f"{name}.global_scale"].shape == ()
        out.unlink()


@pytest.fixture(scope="session")
def backends(ufp4):
    done = subprocess.run([ufp4, "info", "--json"], capture_output=True, text=True, check=True)
    names = available_backends(json.loads(done.stdout))
    assert "scalar" in names
    return names


# ---- the independent program itself ------------------------------------------------------------------------------

def test_philox_known_answers():
    known = [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for counter, key, words in known:
        assert " ".join(f"{int(word):08x}" for word in independent.philox(counter, key)) == words


def test_shards_have_the_bits_of_the_whole():
    x = np.random.default_rng(1).normal(size=(12, 96)).astype(np.float32)
    whole = independent.quantize(x, "F32", Spec("e2m1", stochastic=True, hadamard=16, seed=3))
    part = independent.quantize(
        x[5:, 32:], "F32", Spec("e2m1", stochastic=True, hadamard=16, seed=3, row_offset=5, column_offset=32)
    )
    assert (part.nibbles == whole.nibbles[5:, 32:]).all()
    assert (part.dequant == whole.dequant[5:, 32:]).all()


@pytest.mark.parametrize("spec", [
    Spec("int4_i4", 16, stochastic, size, None, column, seed=7 + size, step=2, stream=5, outer=outer)
    for outer in (None, "1x128", "1x256", "1x1024", "row") for stochastic in (False, True)
    for size, column in ((0, False), (16, True), (32, False))
] + [Spec("int4_i4", 128, True, 16, None, True, seed=3, outer="1x128")], ids=lambda spec: f"{spec_name(spec)}-{spec.outer}")
def test_integer_multiples_have_the_same_bits(ufp4, backends, source, tensors, tmp_path, spec):
    expected = {name: independent.quantize(array, dtype, spec) for name, (dtype, array) in tensors.items()}
    for backend in backends:
        out = tmp_path / f"{backend}.safetensors"
        command = [ufp4, "quantize", str(source), str(out), *arguments(spec), "--backend", backend]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
        found = read_safetensors(out)
        for name, operand in expected.items():
            for part in ("codes", "scales", "outer_scales", "dequant"):
                difference = first_difference(found[f"{name}.{part}"], getattr(operand, part))
                assert difference is None, f"{backend}: {name}.{part}: {difference}"
            assert found[f"{name}.global_scale"] == np.float32(1)
            integers = np.abs(found[f"{name}.scales"])
            assert (integers == np.rint(integers)).all() and integers.max(initial=0) <= 15
