"""ufp4 train and ufp4 compare as a user meets them: exit codes, messages, signals, folders."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from micro_model import MICRO, steps_of, wait_for_step


@pytest.fixture(autouse=True)
def needs_training(verbs):
    if "train" not in verbs:
        pytest.skip("this build has no torch")


@pytest.mark.parametrize("chosen, found", [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_at_barriers_unless_the_user_says_otherwise(program, folder, chosen, found):
    variables = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    process = program.start("train", *MICRO, "--steps", "100000", "--out", folder / "run",
                            env=variables | ({"OMP_WAIT_POLICY": chosen} if chosen else {}))
    wait_for_step(program, process, folder / "run", 1)
    variables_of_it = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
    process.terminate()
    program.rest(process)
    assert f"OMP_WAIT_POLICY={found}" in variables_of_it


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_continues(program, folder, number):
    def command(out):
        return ["train", *MICRO, "--recipe", "ufp4", "--steps", "300", "--set", "train.eval_every=0", "--out", out]

    process = program.start(*command(folder / "run"))
    wait_for_step(program, process, folder / "run", 5)
    process.send_signal(number)
    errors = program.rest(process)
    assert process.returncode == 1, errors
    assert "the same command continues" in errors
    assert list((folder / "run" / "checkpoints").iterdir())

    done = program.succeeds(*command(folder / "run"))
    assert "continues after step" in done.stderr
    program.succeeds(*command(folder / "whole"))
    assert steps_of(folder / "run") == steps_of(folder / "whole")
    last = "checkpoints/step-00000300/model.safetensors"
    assert (folder / "run" / last).read_bytes() == (folder / "whole" / last).read_bytes()


def test_a_signal_that_comes_twice_at_once_saves_too(program, folder):
    process = program.start("train", *MICRO, "--steps", "100000", "--set", "train.eval_every=0", "--out", folder / "run")
    wait_for_step(program, process, folder / "run", 5)
    for _ in range(20):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
    errors = program.rest(process)
    assert process.returncode == 1, errors
    assert "the same command continues" in errors
    assert list((folder / "run" / "checkpoints").iterdir())


def test_a_second_signal_later_ends_a_run_that_does_not_stop(program, folder):
    # One step of this takes minutes.
    slow = ["--set", "model.context=1024", "--set", "train.batch=2048", "--set", "train.micro_batch=1"]
    process = program.start("train", *MICRO, *slow, "--steps", "10", "--out", folder / "run")
    program.wait_for(process, lambda: (folder / "run" / "metrics.jsonl").exists())
    time.sleep(0.5)  # the step has begun
    process.send_signal(signal.SIGTERM)
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    program.rest(process)
    assert process.returncode == -signal.SIGTERM


def test_a_killed_run_continues_from_its_last_checkpoint(program, folder):
    command = ["train", *MICRO, "--steps", "200", "--set", "train.checkpoint_every=10", "--out", folder / "run"]
    process = program.start(*command)
    wait_for_step(program, process, folder / "run", 25)
    process.kill()
    program.rest(process)
    program.succeeds(*command)
    assert [step for step, _ in steps_of(folder / "run")] == list(range(1, 201))


def test_another_configuration_is_refused_and_nothing_is_lost(program, folder):
    command = ["train", *MICRO, "--steps", "4", "--out", folder / "run"]
    program.succeeds(*command)
    before = {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()}
    message = program.fails(2, *command, "--set", "optimizer.lr=0.5")
    assert "optimizer.lr" in message and "0.5" in message
    assert before == {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()}
    assert "is done" in program.succeeds(*command).stderr


def test_a_full_disk_leaves_the_last_good_checkpoint(program, folder):
    if b"libtsan.so" in Path(program.path).read_bytes():
        pytest.skip("ThreadSanitizer's own files are larger than the limit of this test")
    command = ["train", *MICRO, "--steps", "20", "--set", "train.checkpoint_every=5", "--out", folder / "run"]
    program.succeeds("train", *MICRO, "--steps", "5", "--set", "schedule.steps=20", "--out", folder / "run")
    kept = (folder / "run/checkpoints/step-00000005/model.safetensors").read_bytes()
    limit = len(kept) // 2048  # of the size of a file, in KiB: half a checkpoint
    shell = ["bash", "-c", f"ulimit -f {limit}; exec \"$@\"", "bash", program.path, *map(str, command)]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr
    assert "model.safetensors" in done.stderr and "step-00000005" in done.stderr
    assert [path.name for path in (folder / "run/checkpoints").iterdir()] == ["step-00000005"]
    program.succeeds(*command)


@pytest.fixture
def small_disk(folder):
    """A file system of 4 MiB, mounted in a namespace of its own, which ends with the process that made it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mount = 'mount -t tmpfs -o size=4m tmpfs "$0" && echo mounted && exec cat'
    holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", mount, folder], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if holder.stdout.readline() != "mounted\n":
        pytest.skip(f"no small disk can be mounted here: {holder.communicate()[1].strip()}")
    yield Path(f"/proc/{holder.pid}/root{folder}")
    holder.communicate(timeout=60)


def fill(disk, free):
    """Writes a file that leaves `free` bytes."""
    with open(disk / "filler", "wb") as filler:
        while (more := shutil.disk_usage(disk).free - free) > 0:
            filler.write(bytes(more))
            filler.flush()


@pytest.mark.parametrize("share, file", [(0.5, "model.safetensors"), (0, "")])
def test_a_really_full_disk_leaves_the_last_good_checkpoint(program, small_disk, share, file):
    run = small_disk / "run"
    command = ["train", *MICRO, "--steps", "20", "--set", "train.checkpoint_every=5", "--out", run]
    program.succeeds("train", *MICRO, "--steps", "5", "--set", "schedule.steps=20", "--out", run)
    good = {path: path.read_bytes() for path in (run / "checkpoints/step-00000005").iterdir()}
    fill(small_disk, int(share * (run / "checkpoints/step-00000005/model.safetensors").stat().st_size))

    message = program.fails(1, *command)
    assert f"{run}/" in message and file in message and "No space left on device" in message
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000005"]
    assert good == {path: path.read_bytes() for path in (run / "checkpoints/step-00000005").iterdir()}
    if share:
        assert "the last one is" in message and "step-00000005" in message

    (small_disk / "filler").unlink()
    assert "continues after step 5" in program.succeeds(*command).stderr


@pytest.mark.parametrize("arguments, parts", [
    (["--steps", "0"], ["--steps", "train.steps", "'0'"]),
    (["--steps", "-3"], ["train.steps", "'-3'"]),
    (["--set", "train.batch=0"], ["--set", "train.batch", "'0'"]),
    (["--set", "train.batch=x"], ["train.batch", "whole number"]),
    (["--set", "trian.batch=2"], ["trian.batch", "train.batch"]),
    (["--set", "nothing"], ["key=value"]),
    (["--recipe", "upf4"], ["upf4", "ufp4"]),
    (["--recipe", "ufp4:dgrad.hadamrd=0"], ["--recipe", "dgrad.hadamrd", "dgrad.hadamard"]),
    (["--recipe", "ufp4:dgrad.hadamard"], ["--recipe", "dgrad.hadamard", "key=value"]),
    (["--model", "tny"], ["tny", "tiny"]),
    (["--config", "missing.toml"], ["missing.toml"]),
    (["--set", "data.train=missing.txt"], ["missing.txt"]),
    (["--set", "model.d_model=65536", "--set", "model.layers=512", "--set", "model.ffn=262144"], ["GiB"]),
    (["--device", "tpu"], ["tpu", "cuda"]),
])
def test_bad_input(program, folder, arguments, parts):
    message = program.fails(2, "train", *MICRO, "--out", folder / "run", *arguments)
    for part in parts:
        assert part in message
    assert not (folder / "run").exists()


def test_a_key_cannot_steer_the_terminal(program, folder):
    (folder / "a.toml").write_text('"\\u001b[2J" = 1\n')
    assert r"\x1b[2J" in program.fails(2, "train", *MICRO, "--config", folder / "a.toml", "--out", folder / "run")


def test_the_name_of_a_file_may_hold_commas(program, folder):
    for name in ("a,b.txt", "c,d.txt"):
        (folder / name).write_text("words and more words " * 40)
    rest = [argument for argument in MICRO if argument not in ("--data", "builtin")]
    program.succeeds("train", *rest, "--data", folder / "a,b.txt", "--val", folder / "c,d.txt", "--steps", "1", "--out", folder / "run")
    # What a run writes about itself names the same file.
    program.succeeds("train", "--config", folder / "run/config.toml", "--out", folder / "again")


def test_no_model(program, folder):
    message = program.fails(2, "train", "--data", "builtin", "--out", folder / "run")
    assert "--model" in message and "tiny" in message


def test_files_of_settings(program, folder):
    (folder / "run.toml").write_text('[train]\nsteps = 3\nbatch = 2\n\n[recipe]\nbase = "e2m1"\nfprop.hadamard = 16\n')
    program.succeeds("train", *MICRO, "--config", folder / "run.toml", "--out", folder / "run")
    run = json.loads((folder / "run/run.json").read_text())
    assert run["recipe"]["fprop.hadamard"] == 16 and run["recipe"]["fprop.x.format"] == "e2m1"
    (folder / "bad.toml").write_text("[train]\nsteps = 3\nbatsh = 2\n")
    message = program.fails(2, "train", *MICRO, "--config", folder / "bad.toml", "--out", folder / "other")
    assert "bad.toml:3" in message and "train.batch" in message
    # What a run writes about itself starts the same run.
    program.succeeds("train", "--config", folder / "run/config.toml", "--out", folder / "again")
    assert steps_of(folder / "again") == steps_of(folder / "run")


def recipe_of(run):
    return json.loads((run / "run.json").read_text())["recipe"]


def test_a_changed_recipe_without_a_base_is_ufp4(program, folder):
    done = program.succeeds("train", *MICRO, "--steps", "2", "--set", "recipe.dgrad.hadamard=0", "--out", folder / "set")
    recipe = recipe_of(folder / "set")
    assert recipe["dgrad.hadamard"] == 0 and recipe["fprop.hadamard"] == 16 and recipe["fprop.x.format"] == "e1m2"
    assert "recipe ufp4 with dgrad.hadamard=0" in done.stderr


def test_a_recipe_takes_changes_after_colons(program, folder):
    recipe = "ufp4:dgrad.hadamard=0"
    done = program.succeeds("train", *MICRO, "--steps", "2", "--recipe", recipe, "--out", folder / "colon")
    assert f"recipe {recipe}" in done.stderr
    expected = recipe_of(folder / "colon")
    assert expected["name"] == recipe and expected["dgrad.hadamard"] == 0 and expected["fprop.hadamard"] == 16
    program.succeeds("compare", *MICRO, "--steps", "2", "--recipes", recipe, "--out", folder / "all")
    assert recipe_of(folder / "all/runs/ufp4-dgrad.hadamard=0-seed1") == expected
    # What --set says comes later.
    later = ["--set", "recipe.dgrad.hadamard=32"]
    program.succeeds("train", *MICRO, *later, "--steps", "2", "--recipe", recipe, "--out", folder / "later")
    assert recipe_of(folder / "later")["dgrad.hadamard"] == 32


def test_options_replace_what_a_file_of_a_run_names(program, folder):
    program.succeeds("train", *MICRO, "--steps", "2", "--recipe", "e2m1", "--out", folder / "run")
    command = ["--config", folder / "run/config.toml", "--out"]
    program.succeeds("train", *command, folder / "other", "--recipe", "ufp4")
    recipe = recipe_of(folder / "other")
    assert recipe["name"] == "ufp4" and recipe["fprop.x.format"] == "e1m2" and recipe["fprop.hadamard"] == 16
    program.succeeds("compare", *command, folder / "all", "--recipes", "bf16,ufp4")
    assert recipe_of(folder / "all/runs/bf16-seed1")["fprop.x.format"] == "bf16"
    assert recipe_of(folder / "all/runs/ufp4-seed1") == recipe
    program.succeeds("train", *command, folder / "larger", "--model", "tiny", "--set", "model.context=64")
    model = json.loads((folder / "larger/run.json").read_text())["model"]
    assert (model["name"], model["d_model"], model["context"]) == ("tiny", 128, 64)


def test_help_lists_every_setting(program):
    text = program.succeeds("train", "--help-config").stdout
    assert "recipe.dgrad.dy.outer (one of tensor, row, 1x128, 128x128, 1x256, 1x512, 1x1024, own; default own: tensor, of int4_i4 1x512)" in text
    assert "| `GEMM.OPERAND.tau` | `auto`, `1`, `9/8` |" in program.succeeds("train", "--help-config-markdown").stdout
    for key in ["model.d_model", "recipe.dgrad.hadamard", "data.val", "optimizer.lr", "schedule.kind", "train.steps"]:
        assert f"  {key} (" in text


def test_compare_stopped_and_continued(program, folder):
    command = ["compare", *MICRO, "--recipes", "bf16,ufp4,ufp4:dgrad.hadamard=0", "--seeds", "2", "--steps", "40",
               "--out", folder / "all"]
    process = program.start(*command)
    wait_for_step(program, process, folder / "all/runs/ufp4-seed1", 5)
    process.send_signal(signal.SIGTERM)
    errors = program.rest(process)
    assert process.returncode == 1, errors
    assert not (folder / "all/compare.json").exists()
    done = program.succeeds(*command)
    assert "its uncertainty" in done.stdout
    result = json.loads((folder / "all/compare.json").read_text())
    assert set(result) == {"runs", "summary"}
    assert [(run["recipe"], run["seed"]) for run in result["runs"]] == [
        (recipe, seed) for recipe in ("bf16", "ufp4", "ufp4:dgrad.hadamard=0") for seed in (1, 2)]
    for run in result["runs"]:
        assert set(run) == {"recipe", "seed", "steps", "tokens", "train_loss", "val_loss", "tokens_per_s"}
        assert run["steps"] == 40 and run["tokens"] == 40 * 2 * 32
    by_run = {(run["recipe"], run["seed"]): run["train_loss"] for run in result["runs"]}
    pairs = [100 * (by_run["ufp4", seed] - by_run["bf16", seed]) / by_run["bf16", seed] for seed in (1, 2)]
    summary = {row["recipe"]: row for row in result["summary"]}
    assert summary["ufp4"]["degradation_percent_mean"] == pytest.approx(sum(pairs) / 2)
    assert summary["ufp4"]["degradation_percent_sem"] == pytest.approx(abs(pairs[0] - pairs[1]) / 2)
    assert json.loads(program.succeeds(*command, "--json").stdout) == result


def test_compare_with_one_seed_says_so(program, folder):
    done = program.succeeds("compare", *MICRO, "--recipes", "e2m1,ufp4", "--steps", "4", "--out", folder / "all")
    assert "uncertainty unknown (one seed)" in done.stdout
    summary = json.loads((folder / "all/compare.json").read_text())["summary"]
    assert all(row["degradation_percent_mean"] is None for row in summary)


@pytest.mark.parametrize("arguments, part", [
    (["--recipes", "bf16,upf4"], "upf4"), (["--recipes", "bf16,bf16"], "twice"), (["--recipes", "ufp4:a=1"], "'a'"),
    (["--seeds", "0"], "--seeds"),
])
def test_compare_bad_input(program, folder, arguments, part):
    assert part in program.fails(2, "compare", *MICRO, "--steps", "4", "--out", folder / "all", *arguments)
    assert not (folder / "all").exists()


def test_gradients_of_a_checkpoint(program, folder):
    program.succeeds("train", *MICRO, "--recipe", "bf16", "--steps", "4", "--out", folder / "run")
    arguments = ["analyze", folder / "run", "--gradients", "--recipes", "bf16,ufp4", "--draws", "3", "--sequences", "1"]
    report = json.loads(program.succeeds(*arguments, "--each-operand", "--json").stdout)
    assert report["kind"] == "gradients" and report["reference"] == "fp32"
    bf16, ufp4 = report["recipes"]
    assert (bf16["draws"], ufp4["draws"]) == (2, 3)
    assert bf16["whole"]["bias"] < ufp4["whole"]["variance"] ** 0.5
    assert [row["operand"] for row in ufp4["operands"]] == [
        "fprop.x", "fprop.w", "dgrad.dy", "dgrad.w", "wgrad.dy", "wgrad.x"]
    table = program.succeeds(*arguments).stdout
    assert "ufp4: 3 draws" in table and "weights of the linears" in table
    assert "2 to 4096" in program.fails(2, "analyze", folder / "run", "--gradients", "--draws", "1")
    assert program.fails(2, "analyze", folder / "run", "--draws", "4") .startswith("--draws requires --gradients")
    assert "--recipes is for a checkpoint's model" in program.fails(2, "analyze", folder / "run", "--recipes", "ufp4")
