"""A run's folder as others can meet it: two processes, closed outputs, signals, links, damaged and foreign files."""

import json
import os
import resource
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


LONG = ["--steps", "100000", "--set", "train.eval_every=0"]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoints(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


@pytest.mark.parametrize("verb, more", [("train", []), ("compare", ["--recipes", "bf16,ufp4"])])
def test_the_second_process_is_told_who_holds_the_folder(program, folder, verb, more):
    command = [verb, *MICRO, *LONG, *more, "--out", folder / "out"]
    run = folder / "out" if verb == "train" else folder / "out/runs/bf16-seed1"
    first = program.start(*command)
    wait_for_step(program, first, run, 3)
    message = program.fails(2, *command)
    assert f"'{folder / 'out'}' is being written by process {first.pid} on {os.uname().nodename} since 2" in message
    if verb == "compare":
        message = program.fails(2, "train", *MICRO, *LONG, "--recipe", "bf16", "--out", run)
        assert f"process {first.pid}" in message
    step = len(steps_of(run))
    wait_for_step(program, first, run, step + 3)  # the first goes on
    first.kill()  # nothing tells the system that it is done
    program.rest(first)
    (run / "metrics.jsonl").unlink()
    again = program.start(*command)
    wait_for_step(program, again, run, 3)
    again.terminate()
    assert "the same command continues" in program.rest(again)


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_error_output_writes_into_no_file(program, folder, closed):
    command = ["train", *MICRO, "--steps", "20", "--set", "train.log_every=1", "--out", folder / "run"]
    shell = ["bash", "-c", f'exec "$@" {closed}', "bash", program.path, *map(str, command)]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=600)
    assert done.returncode == (0 if closed == "2>&-" else 1)  # standard output takes no result then
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["step"] for line in lines) and len(steps_of(folder / "run")) == 20
    for path in (folder / "run").rglob("*"):
        assert path.name == "train.log" or not path.is_file() or b"tokens/s" not in path.read_bytes(), path
    log = (folder / "run/train.log").read_text()
    assert "parameters on cpu" in log and "step 20/20" in log


def test_a_reader_that_goes_away_ends_nothing(program, folder):
    command = ["train", *MICRO, "--steps", "300", "--set", "train.log_every=1", "--out", folder / "run"]
    process = subprocess.Popen([program.path, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    program.started.append(process)
    assert process.stderr.readline()
    process.stderr.close()
    process.stdout.read()
    process.wait(timeout=600)
    assert process.returncode == 0
    assert len(steps_of(folder / "run")) == 300
    log = (folder / "run/train.log").read_text()
    assert "step 300/300" in log
    process.stderr = None  # read and closed


def test_what_ends_a_run_without_a_reader_is_in_its_log(program, folder):
    command = ["train", *MICRO, *LONG, "--out", folder / "run"]
    shell = ["bash", "-c", 'exec "$@" 2>&-', "bash", program.path, *map(str, command)]
    process = subprocess.Popen(shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    program.started.append(process)
    wait_for_step(program, process, folder / "run", 3)
    process.send_signal(signal.SIGHUP)
    program.rest(process)
    assert process.returncode == 1
    assert "the same command continues" in (folder / "run/train.log").read_text()


def test_a_terminal_that_hangs_up_saves(program, folder):
    process = program.start("train", *MICRO, *LONG, "--out", folder / "run")
    wait_for_step(program, process, folder / "run", 5)
    process.send_signal(signal.SIGHUP)
    errors = program.rest(process)
    assert process.returncode == 1, errors
    assert "the same command continues" in errors
    assert checkpoints(folder / "run")


def test_nohup_is_respected(program, folder):
    process = program.start("train", *MICRO, *LONG, "--out", folder / "run",
                            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for_step(program, process, folder / "run", 5)
    process.send_signal(signal.SIGHUP)
    step = len(steps_of(folder / "run"))
    wait_for_step(program, process, folder / "run", step + 5)
    process.terminate()
    program.rest(process)


@pytest.mark.parametrize("more", [["--operands"], ["--chain"], []])
def test_analyze_changes_nothing_in_a_run_in_progress(program, folder, more):
    run = folder / "run"
    process = program.start("train", *MICRO, *LONG, "--set", "train.checkpoint_every=5", "--set",
                            "train.keep_checkpoints=1000", "--out", run)
    wait_for_step(program, process, run, 12)
    (run / "checkpoints/.step-99999999.new").mkdir()  # as of a save under way
    for _ in range(2):
        program.succeeds("analyze", run, *more, "--formats", "e2m1")
    assert (run / "checkpoints/.step-99999999.new").is_dir()
    assert process.poll() is None
    process.terminate()
    assert "the same command continues" in program.rest(process)


@pytest.mark.parametrize("more", [["--operands"], []])
@pytest.mark.parametrize("name, part", [("model.safetensors", "is damaged"), ("manifest.json", "manifest.json")])
def test_analyze_checks_a_checkpoint(program, folder, more, name, part):
    program.succeeds("train", *MICRO, "--steps", "2", "--out", folder / "run")
    checkpoint = folder / "run/checkpoints/step-00000002"
    if name == "manifest.json":
        (checkpoint / name).unlink()
    else:
        data = bytearray((checkpoint / name).read_bytes())
        data[-5] ^= 1
        (checkpoint / name).write_bytes(data)
    for path in (folder / "run", checkpoint):
        message = program.fails(2, "analyze", path, *more)
        assert name in message and part in message


def test_the_report_writes_through_no_link(program, folder):
    run = folder / "run"
    program.succeeds("train", *MICRO, "--steps", "2", "--out", run)
    victim = folder / "victim"
    victim.write_text("mine")
    for name in ("report.html.partial", "report.html"):
        (run / name).symlink_to(victim)
    program.succeeds("report", run)
    assert victim.read_text() == "mine"
    assert not (run / "report.html").is_symlink() and "<html" in (run / "report.html").read_text()
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_folders_that_cannot_be(program, folder, verb):
    (folder / "file").write_text("x")
    (folder / "run").mkdir()
    inside = "checkpoints" if verb == "train" else "runs"
    (folder / "run" / inside).write_text("x")
    for out, part in [("", "empty"), (folder / ("x" * 300), "too long"), (folder / "file", "is a file"),
                      (folder / "file/run", "file"), (folder / "run", f"{inside} is a file"),
                      ("/proc/no/run", "/proc/no")]:
        message = program.fails(2, verb, *MICRO, "--steps", "2", "--out", out)
        assert part in message
    assert sorted(path.name for path in folder.iterdir()) == ["file", "run"]


def test_no_permission_is_wrong_input(program, folder):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (folder / "closed").mkdir(mode=0o500)
    assert "Permission denied" in program.fails(2, "train", *MICRO, "--out", folder / "closed/run")


def test_settings_that_are_gone_name_their_copy(program, folder):
    command = ["train", *MICRO, "--steps", "4", "--set", "train.checkpoint_every=2", "--out", folder / "run"]
    program.succeeds(*command)
    (folder / "run/result.json").unlink()
    (folder / "run/config.toml").write_text("")
    message = program.fails(2, *command)
    assert "run/config.toml" in message and "copy" in message
    shutil.copy(folder / "run/checkpoints/step-00000004/config.toml", folder / "run/config.toml")
    program.succeeds(*command)


def test_more_steps_than_the_schedule_say_how_to_go_on(program, folder):
    program.succeeds("train", *MICRO, "--steps", "4", "--out", folder / "run")
    before = contents(folder / "run")
    message = program.fails(2, "train", *MICRO, "--steps", "8", "--out", folder / "run")
    assert "choose another folder" in message and "schedule.steps" in message
    message = program.fails(2, "train", *MICRO, "--steps", "2", "--set", "schedule.steps=4", "--out", folder / "run")
    assert "at step 4" in message
    assert contents(folder / "run") == before


def test_a_progress_without_a_reader_ends_nothing(program, folder):
    program.succeeds("train", *MICRO, "--steps", "1", "--out", folder / "run")
    model = folder / "run/checkpoints/step-00000001/model.safetensors"
    shell = ["bash", "-c", 'exec "$@" 2>&-', "bash", program.path, "quantize", str(model), str(folder / "q"),
             "--format", "e2m1"]
    assert subprocess.run(shell, timeout=600).returncode == 0  # vectors are skipped, which nobody reads
    assert (folder / "q").stat().st_size > 0
