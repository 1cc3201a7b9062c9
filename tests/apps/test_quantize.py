"""`ufp4 quantize`: the contract of the file it writes, and what bad input gets. That the bits are right is tests/python's."""
import resource
import signal

import numpy as np
import pytest
import safetensors_file

RANDOM = np.random.default_rng(7)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.fixture
def source(folder):
    return safetensors_file.write(folder / "in.safetensors", {
        "bias": ("F32", normal(5)),
        "odd": ("U8", np.zeros(3)),  # what follows stands at odd addresses
        "w": ("F32", normal(5, 37)),
        "half": ("F16", normal(48, 20)),
        "brain": ("BF16", (normal(3, 64).view(np.uint32) >> 16).astype(np.uint16)),
        "none": ("F32", normal(0, 8)),
        "count": ("I64", np.zeros((2, 2))),
    })


def quantize(program, source, *arguments):
    out = source.parent / "out.safetensors"
    done = program.succeeds("quantize", source, out, *arguments)
    return safetensors_file.read(out), done


def test_contract(program, source):
    found, done = quantize(program, source, "--format", "e1m2")
    assert set(found) == {f"{t}.{part}" for t in ("w", "half", "brain", "none")
                          for part in ("codes", "scales", "global_scale", "dequant")}
    for name, rows, padded in (("w", 5, 48), ("half", 48, 32), ("brain", 3, 64), ("none", 0, 16)):
        codes, scales, dequant = (found[f"{name}.{part}"] for part in ("codes", "scales", "dequant"))
        assert (codes.dtype, codes.shape) == (np.uint8, (rows, padded // 2))
        assert (scales.dtype, scales.shape) == (np.float32, (rows, padded // 16))
        assert (dequant.dtype, dequant.shape) == (np.float32, (rows, padded))
        assert found[f"{name}.global_scale"].shape == () and found[f"{name}.global_scale"] == 1
        # The even element stands in the low nibble; bit 3 is the sign, the rest counts quarters.
        nibbles = np.stack([codes & 15, codes >> 4], axis=-1).reshape(rows, padded)
        level = np.where(nibbles >= 8, -1, 1).astype(np.float32) * (nibbles & 7).astype(np.float32) / np.float32(4)
        assert np.array_equal(level * np.repeat(scales, 16, axis=1), dequant)
    assert done.stderr.splitlines() == [
        f"ufp4: skipped {what}; only 2-D tensors of F32, F16 and BF16 are quantized"
        for what in ("'bias': 1-D F32", "'odd': 1-D U8", "'count': 2-D I64")]
    assert "4 tensors in e1m2" in done.stdout


def test_a_file_says_how_it_was_made(program, source):
    out = source.parent / "out.safetensors"
    program.succeeds("quantize", source, out, "--format", "e1m2")
    plain = safetensors_file.header_of(out)["__metadata__"]
    version = program.succeeds("--version").stdout.split()[1]
    assert plain == {"ufp4.version": version, "ufp4.format": "e1m2", "ufp4.block": "16", "ufp4.axis": "row", "ufp4.hadamard": "0",
                     "ufp4.rounding": "rtne", "ufp4.seed": "0", "ufp4.step": "0", "ufp4.stream": "0"}
    program.succeeds("quantize", source, out, "--format", "int4_p2", "--block", "32", "--axis", "column", "--hadamard", "32", "--signs", "0xd7e8",
                     "--hadamard-output", "bf16", "--outer", "1x128", "--rounding", "sr", "--seed", "18446744073709551615", "--step", "7", "--stream", "9")
    full = safetensors_file.header_of(out)["__metadata__"]
    assert full == {"ufp4.version": version, "ufp4.format": "int4_p2", "ufp4.block": "32", "ufp4.axis": "column", "ufp4.hadamard": "32",
                    "ufp4.signs": "0x0000D7E8", "ufp4.hadamard_output": "bf16", "ufp4.outer": "1x128", "ufp4.tau": "1",
                    "ufp4.rounding": "sr", "ufp4.seed": "18446744073709551615", "ufp4.step": "7", "ufp4.stream": "9"}
    # Given back as options they make the same file, also where the mask came from the seed.
    program.succeeds("quantize", source, out, "--format", "e2m1", "--hadamard", "128", "--seed", "5")
    first = out.read_bytes()
    made = safetensors_file.header_of(out)["__metadata__"]
    program.succeeds("quantize", source, out, *(f"--{key}={made[f'ufp4.{key}']}" for key in
                                                ("format", "block", "axis", "hadamard", "signs", "rounding", "seed", "step", "stream")))
    assert out.read_bytes() == first


def test_outer_scales_do_not_depend_on_how_a_file_is_cut(program, folder):
    # Larger than a tile of work, and with rows of very different sizes.
    w = normal(300, 5000) * np.logspace(-3, 3, 300, dtype=np.float32)[:, None]
    source = safetensors_file.write(folder / "a.safetensors", {"w": ("F32", w), "part": ("F32", w[128:256])})
    for outer in ("row", "1x128", "128x128"):
        found, _ = quantize(program, source, "--format", "int4_p2", "--outer", outer, "--tau", "1")
        assert found["w.global_scale"] == 1
        assert np.array_equal(found["w.dequant"][128:256], found["part.dequant"]), outer
        error = found["w.dequant"][:, :5000] - w
        assert np.square(error).sum() < 0.02 * np.square(w).sum(), outer


def test_transform_output_in_bf16(program, folder):
    source = safetensors_file.write(folder / "a.safetensors", {"w": ("F32", normal(40, 64))})
    arguments = ("--format", "nvfp4", "--hadamard", "16", "--signs", "0xD7E8")
    plain, _ = quantize(program, source, *arguments)
    rounded, _ = quantize(program, source, *arguments, "--hadamard-output", "bf16")
    largest = rounded["w.global_scale"] * np.float32(2688)
    assert largest.view(np.uint32) & 0x7FFF < 2 or largest.view(np.uint32) & 0x7FFF > 0x7FFD  # a BF16 number, nearly
    assert 0 < (plain["w.codes"] != rounded["w.codes"]).sum() < 200


def test_column_is_row_of_the_transposed(program, folder):
    w = normal(70, 37)
    source = safetensors_file.write(folder / "a.safetensors", {"w": ("F32", w), "t": ("F32", w.T)})
    for more in ([], ["--hadamard", "32"], ["--rounding", "sr", "--seed", "3", "--block", "64"]):
        row, _ = quantize(program, source, "--format", "int4_full", *more)
        column, _ = quantize(program, source, "--format", "int4_full", "--axis", "column", *more)
        for part in ("codes", "scales", "dequant"):
            assert np.array_equal(column[f"w.{part}"], row[f"t.{part}"])
            assert np.array_equal(column[f"t.{part}"], row[f"w.{part}"])


def test_signs(program, folder):
    w = normal(4, 128)
    source = safetensors_file.write(folder / "a.safetensors", {"w": ("F32", w)})
    for size, mask in ((16, 0xD7E8), (32, 0x80000001), (128, 0xB5297A4D_68E31DA4_1B56C4E9_7FEB352D)):
        bits = np.array([mask >> i & 1 for i in range(size)])
        flipped = w.reshape(-1, size) * np.where(bits, -1, 1).astype(np.float32)
        other = safetensors_file.write(folder / "b.safetensors", {"w": ("F32", flipped.reshape(w.shape))})
        base = ["--format", "e1m2", "--hadamard", str(size)]
        with_mask, _ = quantize(program, source, *base, "--signs", f"0x{mask:X}")
        without, _ = quantize(program, other, *base, "--signs", "0x0")
        assert np.array_equal(with_mask["w.codes"], without["w.codes"])
    default, _ = quantize(program, source, "--format", "e1m2", "--hadamard", "16")
    seeded, _ = quantize(program, source, "--format", "e1m2", "--hadamard", "16", "--seed", "12345")
    assert not np.array_equal(default["w.codes"], seeded["w.codes"])


@pytest.mark.parametrize("axis", ["row", "column"])
def test_threads_and_tiles_change_no_bit(program, folder, axis):
    """One wide row, one tall column and a plain matrix, each of several tiles, equal the scalar backend's whole."""
    tensors = {"wide": normal(1, 1_100_000), "tall": normal(1_100_000, 1)[:140_001], "plain": normal(300, 4000)}
    source = safetensors_file.write(folder / "a.safetensors", {name: ("F32", t) for name, t in tensors.items()})
    files = []
    for threads in (1, 3):
        out = folder / f"{threads}.safetensors"
        program.succeeds("quantize", source, out, "--format", "e2m1", "--rounding", "sr", "--hadamard", "16", "--axis",
                         axis, "--threads", threads)
        files.append(out.read_bytes())
    assert files[0] == files[1]
    # A part of the operand that begins at its origin has the random bits of the whole.
    part = {name: ("F32", t[:64, :4000]) for name, t in tensors.items()}
    alone = safetensors_file.write(folder / "part.safetensors", part)
    small, _ = quantize(program, alone, "--format", "e2m1", "--rounding", "sr", "--hadamard", "16", "--axis", axis)
    whole = safetensors_file.read(folder / "1.safetensors")
    for name, (_, array) in part.items():
        rows, columns = array.shape if axis == "row" else array.shape[::-1]
        whole_blocks = columns // 16 * 16
        assert np.array_equal(small[f"{name}.dequant"][:, :whole_blocks], whole[f"{name}.dequant"][:rows, :whole_blocks])


def test_names_that_look_like_results(program, folder):
    """Results get a suffix, so even these do not collide."""
    source = safetensors_file.write(folder / "a.safetensors", {n: ("F32", normal(2, 16)) for n in ("a", "a.codes")})
    found, _ = quantize(program, source, "--format", "e1m2")
    assert len(found) == 8 and "a.codes.codes" in found


@pytest.mark.parametrize("arguments, message", [
    (["--format", "e1m3"], "unknown format 'e1m3' (did you mean 'e1m2'?)"),
    (["--format", "e1m2", "--block", "24"], "--block 24: expected one of 16, 32, 64, 128"),
    (["--format", "e1m2", "--block", "0"], "--block 0: expected one of 16, 32, 64, 128"),
    (["--format", "e1m2", "--block", "-16"], "--block: found '-16', expected a whole number from 0"),
    (["--format", "e1m2", "--scale", "e4m3"], "--scale e4m3: format 'e1m2' keeps its scales in fp32"),
    (["--format", "e1m2", "--hadamard", "8"], "--hadamard 8: expected 0 (none), 16, 32, 64 or 128"),
    (["--format", "e1m2", "--signs", "0x1"], "--signs is the mask of a transform; give its size with --hadamard"),
    (["--format", "e1m2", "--hadamard", "16", "--signs", "0x10000"], "--signs 0x10000: more than the 16 bits"),
    (["--format", "e1m2", "--hadamard", "16", "--signs", "D7E8"], "--signs D7E8: not a hexadecimal mask"),
    (["--format", "e1m2", "--hadamard", "16", "--signs", "0xD7G8"], "--signs 0xD7G8: 'G' is not a hexadecimal digit"),
    (["--format", "e1m2", "--axis", "colum"], "--axis: unknown value 'colum' (did you mean 'column'?)"),
    (["--format", "e1m2", "--rounding", "rtn"], "--rounding: unknown value 'rtn' (did you mean 'rtne'?)"),
    (["--format", "e1m2", "--seed", "-1"], "--seed: found '-1', expected a whole number from 0 to 18446744073709551615"),
    (["--format", "e1m2", "--step", "4294967296"], "--step: found '4294967296', expected a whole number from 0 to 4294967295"),
    (["--format", "e1m2", "--stream", "x"], "--stream: found 'x', expected a whole number from 0 to 4294967295"),
    (["--format", "e1m2", "--threads", "0"], "--threads: found '0', expected a whole number from 1 to 1024"),
    (["--format", "e1m2", "--backend", "scaler"], "unknown backend 'scaler' (did you mean 'scalar'?)"),
])
def test_bad_options(program, source, arguments, message):
    out = source.parent / "out"
    assert program.fails(2, "quantize", source, out, *arguments).startswith(message)
    assert not out.exists()


def test_scale_of_the_format_is_accepted(program, source):
    quantize(program, source, "--format", "e1m2", "--scale", "fp32")


def test_bad_files(program, source, folder):
    def error(origin, out):
        return program.fails(2, "quantize", origin, out, "--format", "e1m2")

    out = folder / "out"
    empty = folder / "empty"
    empty.touch()
    assert error(folder / "no", out) == f"cannot read '{folder / 'no'}': No such file or directory"
    assert error(folder, out) == f"cannot read '{folder}': it is a folder, not a file"
    assert error(empty, out) == f"'{empty}' is not a safetensors file: it is empty"
    assert error(source, source) == f"'{source}' is the input itself; name another file for the output"
    assert error(source, folder) == f"cannot write '{folder}': it exists and is a folder"
    assert error(source, folder / "no" / "out") == f"cannot write '{folder / 'no' / 'out'}': No such file or directory"
    one = safetensors_file.write(folder / "one", {"bias": ("F32", normal(3))})
    assert error(one, out) == f"'{one}' has no 2-D tensor of F32, F16 or BF16 to quantize (1 tensors of other kinds)"
    assert not out.exists()


def test_cut_file_names_the_tensor(program, source, folder):
    source.write_bytes(source.read_bytes()[:-1])
    message = program.fails(2, "quantize", source, folder / "out", "--format", "e1m2")
    assert message.startswith(f"'{source}': tensor 'count': data_offsets") and "reach beyond" in message


def test_full_disk_keeps_the_old_file(program, source, folder):
    out = folder / "out"
    out.write_text("old")
    message = program.fails(1, "quantize", source, out, "--format", "e1m2",
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)))
    assert message == f"cannot write '{out}': File too large"
    assert out.read_text() == "old"
    assert sorted(p.name for p in folder.iterdir()) == ["in.safetensors", "out"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(program, folder, number):
    source = safetensors_file.write(folder / "in", {"w": ("F32", normal(1000, 40_000))})
    out = folder / "out"
    child = program.start("quantize", source, out, "--format", "e1m2", "--backend", "scalar", "--threads", "1",
                          "--rounding", "sr")
    program.wait_for(child, lambda: any(p.name.endswith(".tmp") for p in folder.iterdir()))
    child.send_signal(number)
    stderr = program.rest(child)
    assert child.returncode == 1
    assert stderr == f"ufp4: error: interrupted; '{out}' was not written\n"
    assert [p.name for p in folder.iterdir()] == ["in"]
