"""`ufp4 analyze` and `ufp4 formats --levels` as a user calls them: what is refused, and in which words."""
import json

import numpy as np
import pytest
from safetensors_file import write


@pytest.fixture
def tensors(folder):
    values = np.random.default_rng(1).standard_normal((32, 64)).astype(np.float32)
    return write(folder / "a.safetensors", {"a": ("F32", values)})


@pytest.fixture
def needs_models(verbs):
    if "train" not in verbs:
        pytest.skip("this build has no torch")


@pytest.mark.parametrize("option, value", [("--data", "books.txt"), ("--device", "cpu"), ("--sequences", "2")])
def test_options_of_models_need_a_model(program, tensors, needs_models, option, value):
    message = program.fails(2, "analyze", tensors, option, value)
    assert message == f"{option} is for a checkpoint's model: give --operands, --chain or --gradients with it"


@pytest.mark.parametrize("part", ["--operands", "--chain"])
def test_options_of_tensors_are_not_for_models(program, tensors, needs_models, part):
    assert program.fails(2, "analyze", tensors, part, "--seed", "3").startswith("--seed is for tensors in files")


@pytest.mark.parametrize("arguments", [["--csv"], ["--block", "16"], ["--distributions", "normal"]])
def test_options_of_theory_need_a_grid(program, arguments):
    assert program.fails(2, "formats", *arguments) == f"{arguments[0]} is for the theory of grids: give --levels or --sweep with it"


def test_sweeps_are_ranked_before_and_after_the_transform(program):
    ranked = {}
    for key in ("before", "after"):
        out = program.succeeds("formats", "--sweep", "9", "--distributions", "student3", "--rank", key, "--top", "5", "--json").stdout
        document = json.loads(out)
        assert document["ranked_by"] == key
        ranked[key] = document["distributions"]["student3"]["ranked"][:5]
    before = [row["figures"]["sqnr_db"] for row in ranked["before"]]
    after = [row["after_transform"]["sqnr_db"] for row in ranked["after"]]
    assert before == sorted(before, reverse=True) and after == sorted(after, reverse=True)
    assert ranked["before"] != ranked["after"]
    assert "blocks that the quantizer knows (16, 32, 64, 128), found 24" in program.fails(
        2, "formats", "--sweep", "9", "--rank", "after", "--block", "24")


def test_a_run_stands_for_its_newest_checkpoint(program, folder):
    for step, rows in ((8, 16), (16, 32)):
        checkpoint = folder / "run" / "checkpoints" / f"step-{step:08}"
        checkpoint.mkdir(parents=True)
        write(checkpoint / "model.safetensors", {"a": ("F32", np.ones((rows, 16), np.float32))})
    tensors = json.loads(program.succeeds("analyze", folder / "run", "--json").stdout)["tensors"]
    assert [t["shape"] for t in tensors] == [[32, 16]]
    (folder / "none" / "checkpoints").mkdir(parents=True)
    assert program.fails(2, "analyze", folder / "none").endswith("holds no checkpoint")


def test_a_missing_shard_is_noticed(program, folder):
    one = {"a": ("F32", np.ones((16, 16), np.float32))}
    write(folder / "m-00001-of-00002.safetensors", one)
    message = program.fails(2, "analyze", folder)
    assert message == f"folder '{folder}': the shard 'm-00002-of-00002.safetensors' is missing: the names of 1 files announce 2"
    program.succeeds("analyze", folder / "m-00001-of-00002.safetensors")  # one that is named stands for itself
    write(folder / "m-00002-of-00002.safetensors", one)
    (folder / "m.safetensors.index.json").write_text('{"weight_map": {"w": "more.safetensors"}}')
    assert "the shard 'more.safetensors' is missing: 'm.safetensors.index.json'" in program.fails(2, "analyze", folder)


def test_the_end_of_a_long_table_has_the_worst(program, folder):
    random = np.random.default_rng(2)
    values = random.standard_normal((7, 16, 64)).astype(np.float32)
    values[3] = 5  # between the levels 4 and 6, where the spacing is widest
    values[3, :, ::16] = 6
    tensors = {f"t{i}": ("F32", values[i]) for i in range(7)}
    tensors |= {f"bias{i}": ("F32", np.ones(64, np.float32)) for i in range(6)}
    write(folder / "a.safetensors", tensors)
    done = program.succeeds("analyze", folder / "a.safetensors", "--formats", "e2m1", "--hadamard", "0")
    head, worst = done.stdout.split("\nof 7 tensors, the lowest SQNR:\n")
    rows = [line.split() for line in worst.splitlines()]
    assert len(rows) == 5 and rows[0][1:] == ["dB", "e2m1", "'t3'"]
    decibels = [float(row[0]) for row in rows]
    assert decibels == sorted(decibels)
    assert [line for line in done.stderr.splitlines() if "skipped" in line] == [done.stderr.strip()]
    assert "and 3 more; F32, F16 and BF16 tensors of 2 dimensions and more are measured" in done.stderr
    assert len(json.loads(program.succeeds("analyze", folder / "a.safetensors", "--json").stdout)["skipped"]) == 6


def test_what_is_no_model_is_told(program, folder):
    write(folder / "a.safetensors", {"a": ("F32", np.ones((16, 16), np.float32))})
    (folder / "._a.safetensors").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    done = program.succeeds("analyze", folder, "--json")
    assert "left out" in done.stderr and "._a.safetensors" in done.stderr and "macOS" in done.stderr
    assert [t["name"] for t in json.loads(done.stdout)["tensors"]] == ["a"]
    assert "companion file of macOS" in program.fails(2, "analyze", folder / "._a.safetensors")
    (folder / "b.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    done = program("analyze", folder, "--json")  # refused before anything is measured
    assert done.returncode == 2 and done.stdout == "" and "Git LFS pointer" in done.stderr


def test_bins_in_the_table_are_those_of_the_json(program, tensors):
    command = ["analyze", tensors, "--formats", "e2m1,int4_full"]
    table = program.succeeds(*command, "--bins").stdout
    for figures in json.loads(program.succeeds(*command, "--json").stdout)["tensors"][0]["schemes"]:
        for share, error in zip(figures["level_share"], figures["level_mean_error"], strict=True):
            assert f"{100 * share:5.1f}% {error:+8.4f}" in table
    assert "4  -0.2500  -0.1644 |" in table
