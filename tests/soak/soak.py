"""Trains a micro model again and again while its process is killed, its disk fills up, and its files are damaged.

Each trial takes a run through one kind of trouble and then to its end. What is promised holds or the soak ends: the
metrics, weights and optimizer are those of a run that nothing happened to, to the bit; no message is missing; nothing
is left lying about; nothing outside the folder has changed. docs/reliability.md states it in full."""

import argparse
import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from micro_model import MICRO

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "config.toml", "manifest.json")
LIMIT_S = 300  # of a program that hangs


class Loss(Exception):
    """What was promised and did not hold."""


@dataclasses.dataclass
class Ended:
    code: int
    errors: str
    output: str = ""


def require(condition, what, ended=None):
    if not condition:
        raise Loss(what + (f"\nexit code {ended.code}, standard error:\n{ended.errors[-3000:]}" if ended else ""))


def measured(run: Path):
    """The lines of the metrics but for what the clock and the machine decide."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in ("step", "loss", "grad_norm", "lr", "tokens", "val_loss") if key in line}
            for line in lines]


def checkpoint(run: Path, step: int) -> Path:
    return run / f"checkpoints/step-{step:08}"


def steps_saved(run: Path) -> list[int]:
    folder = run / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name[5:]) for name in names if name.startswith("step-") and len(name) == 13)


class Soak:
    """The trials. `steps` is the length of a run, which saves every third step."""

    def __init__(self, ufp4: str, work: Path, seed: int, steps: int):
        self.ufp4, self.work, self.steps = ufp4, work, steps
        self.random = random.Random(seed)
        self.figures = Counter()
        self.environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # it need not start itself anew
        self.shim = work / "faults.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.shim, Path(__file__).with_name("faults.c"), "-ldl"],
                       check=True)
        self.whole = work / "whole"
        begin = time.monotonic()
        require(self.train(self.whole).code == 0, "a run that nothing happens to fails")
        self.seconds = time.monotonic() - begin
        self.metrics = measured(self.whole)
        self.last = {name: (checkpoint(self.whole, steps) / name).read_bytes() for name in FILES}
        # A run stopped in its middle, as the trials on files begin.
        self.half = work / "half"
        ended = self.stopped_in_the_middle(self.half)
        require(len(steps_saved(self.half)) == 2, "a run that was stopped has two checkpoints", ended)
        self.calls = self.count_calls()

    # Commands.

    def command(self, run: Path, *more) -> list[str]:
        every = ["--steps", self.steps, "--set", "train.checkpoint_every=3", "--set", "train.eval_every=6"]
        return [self.ufp4, "train", *MICRO, *map(str, every), *map(str, more), "--out", str(run)]

    def start(self, command, **options) -> subprocess.Popen:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                **{"env": self.environment, **options})

    def end(self, process) -> Ended:
        try:
            output, errors = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Loss(f"no end after {LIMIT_S} s: {process.args}") from None
        return Ended(process.returncode, errors, output)

    def train(self, run: Path, *more, **options) -> Ended:
        return self.end(self.start(self.command(run, *more), **options))

    def under_faults(self, run: Path, call: int, action: str, count: Path | None = None) -> Ended:
        environment = self.environment | {"LD_PRELOAD": str(self.shim), "SOAK_FOLDER": str(run),
                                          "SOAK_CALL": str(call), "SOAK_ACTION": action}
        return self.train(run, env=environment | ({"SOAK_COUNT": str(count)} if count else {}))

    def count_calls(self) -> int:
        """The calls of a whole run that change files in its folder."""
        run = self.new("counted")
        ended = self.under_faults(run, 0, "kill", self.work / "calls")
        require(ended.code == 0, "a run whose calls are counted fails", ended)
        self.check_whole(run)
        return int((self.work / "calls").read_text())

    def new(self, name: str) -> Path:
        folder = self.work / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder / name

    def copy_of_half(self, name: str) -> Path:
        run = self.new(name)
        shutil.copytree(self.half, run, symlinks=True)
        return run

    def stopped_in_the_middle(self, run: Path) -> Ended:
        part = (self.steps - 1) // 6 * 6  # a step with a validation, as of the whole run
        ended = self.train(run, "--set", f"schedule.steps={self.steps}", "--set", f"train.steps={part}")
        (run / "result.json").unlink(missing_ok=True)
        return ended

    # What is promised.

    def check_whole(self, run: Path):
        """A run that came to its end, whatever happened to it before."""
        require(measured(run) == self.metrics, f"{run}: the metrics differ from those of a run that never stopped")
        for name in FILES:
            require((checkpoint(run, self.steps) / name).read_bytes() == self.last[name], f"{run}: {name} differs")
        left = [path.name for path in [*run.iterdir(), *(run / "checkpoints").iterdir()] if path.name.startswith(".")]
        require(not left, f"{run}: left lying about: {left}")
        require((run / "result.json").exists() and (run / "run.json").exists(), f"{run}: a file is missing")

    def finish(self, run: Path) -> Ended:
        before = steps_saved(run)
        ended = self.train(run)
        require(ended.code == 0, f"{run} does not come to its end", ended)
        if before and "is done already" not in ended.errors:
            self.figures["resumed segments compared to the bit"] += 1
        return ended

    def finish_whole(self, run: Path) -> Ended:
        ended = self.finish(run)
        self.check_whole(run)
        return ended

    # Trials.

    def kills_at_random_moments(self):
        run = self.new("run")
        saved = 0
        for _ in range(self.random.randint(1, 4)):
            process = self.start(self.command(run))
            time.sleep(self.random.uniform(0, 1.1 * self.seconds))
            process.kill()
            self.figures["kills at random moments"] += self.end(process).code == -signal.SIGKILL
            found = max(steps_saved(run), default=0)
            require(found >= saved, f"{run}: step {saved} was saved, now the newest is {found}")
            saved = found
        ended = self.finish(run)
        if saved and f"step {self.steps}/" in ended.errors:
            require(f"continues after step {saved}" in ended.errors, f"{run}: step {saved} was saved and not used", ended)
        self.check_whole(run)

    def kills_at_system_calls(self):
        run = self.new("run")
        for _ in range(self.random.randint(1, 3)):
            action = self.random.choice(["kill", "kill", "tear"])
            ended = self.under_faults(run, self.random.randint(1, self.calls), action)
            require(ended.code in (0, -signal.SIGKILL), f"{run}: {action} ends it otherwise", ended)
            self.figures["kills at system calls"] += ended.code != 0
        self.finish_whole(run)

    def full_disks(self):
        run = self.new("run")
        ended = self.under_faults(run, self.random.randint(1, self.calls), "nospace")
        require(ended.code in (0, 1), f"{run}: a full disk has exit code 1", ended)
        if ended.code == 1:
            require("ufp4: error: " in ended.errors and "No space left" in ended.errors, f"{run}: no word of it", ended)
            self.figures["full disks"] += 1
        self.finish_whole(run)

    def limits_on_the_size_of_files(self):
        run = self.copy_of_half("run")
        most = 2 * sum(len(content) for content in self.last.values())
        limit = self.random.randint(2000, most // 2)
        ended = self.train(run, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        require(ended.code in (0, 1), f"{run}: a limit of {limit} bytes has exit code 1", ended)
        if ended.code == 1:
            require("ufp4: error: " in ended.errors and str(run) in ended.errors, f"{run}: no word of the file", ended)
            self.figures["full disks"] += 1
        self.finish_whole(run)

    def input_output_errors(self):
        run = self.new("run")
        ended = self.under_faults(run, self.random.randint(1, self.calls), "error")
        require(ended.code in (0, 1), f"{run}: an I/O error has exit code 1", ended)
        if ended.code == 1:
            require("ufp4: error: " in ended.errors, f"{run}: no word of the error", ended)
        self.figures["I/O errors"] += 1
        self.finish_whole(run)

    def stops_by_signals(self):
        run = self.new("run")
        number = self.random.choice([signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
        process = self.start(self.command(run))
        time.sleep(self.random.uniform(0, 1.1 * self.seconds))
        process.send_signal(number)
        ended = self.end(process)
        # Before it listens it ends as any program does.
        require(ended.code in (0, 1, -number), f"{run}: {number.name} ends it otherwise", ended)
        if ended.code == 1:
            require("the same command continues" in ended.errors, f"{run}: {number.name} does not save", ended)
            self.figures["stops by signals"] += 1
        self.finish_whole(run)

    def damaged(self, change):
        """Changes one file of a checkpoint; each is then refused by name, and the run ends as if nothing had been."""
        run = self.copy_of_half("run")
        step = self.random.choice(steps_saved(run))
        file = checkpoint(run, step) / self.random.choice(FILES)
        content = bytearray(file.read_bytes())
        what = change(content)
        file.write_bytes(content)
        ended = self.end(self.start([self.ufp4, "analyze", str(checkpoint(run, step)), "--formats", "e2m1"]))
        require(ended.code == 2 and file.parent.name in ended.errors, f"{file}: {what} is not refused", ended)
        newest = step == steps_saved(run)[-1]
        ended = self.finish_whole(run)
        if newest:
            require("checkpoint refused" in ended.errors, f"{file}: {what} is not told", ended)

    def bit_flips(self):
        def flip(content):
            bit = self.random.randrange(8 * len(content))
            content[bit // 8] ^= 1 << bit % 8
            return f"a flip of bit {bit}"

        self.damaged(flip)
        self.figures["bit flips refused"] += 1

    def truncations(self):
        def cut(content):
            length = self.random.randrange(len(content))
            del content[length:]
            return f"a cut to {length} bytes"

        self.damaged(cut)
        self.figures["truncations refused"] += 1

    def damaged_files_of_the_run(self):
        """None of them decides anything: the run ends with its bits, or says what is wrong with its configuration."""
        run = self.copy_of_half("run")
        file = run / self.random.choice(["metrics.jsonl", "run.json", "config.toml"])
        content = bytearray(file.read_bytes())
        if self.random.random() < 0.3:
            del content[self.random.randrange(len(content)):]
        else:
            bit = self.random.randrange(8 * len(content))
            content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        ended = self.train(run)
        if file.name == "config.toml" and ended.code == 2:
            require("config" in ended.errors, f"{file}: refused without its name", ended)
            shutil.copy(self.half / file.name, file)
            ended = self.train(run)
        require(ended.code == 0, f"{file}: a damaged one stops the run", ended)
        require((checkpoint(run, self.steps) / "model.safetensors").read_bytes() == self.last["model.safetensors"],
                f"{file}: damage in it changed the weights")
        self.figures["damaged files of the run"] += 1

    def hostile_files(self):
        run = self.copy_of_half("run")
        outside = run.parent / "outside"
        outside.mkdir()
        (outside / "victim").write_text("mine")
        newest = checkpoint(run, steps_saved(run)[-1])
        deep = "[" * 200_000 + "]" * 200_000

        def link(path, to):
            path.is_dir() and shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.symlink_to(to)

        def pipe(path):
            path.unlink(missing_ok=True)
            os.mkfifo(path)

        kinds = {
            "link at a file": lambda: link(run / self.random.choice(
                ["metrics.jsonl", "config.toml", "run.json", "result.json", ".lock", "train.log", "analysis.jsonl"]),
                outside / self.random.choice(["victim", "nothing"])),
            "link at a folder": lambda: link(run / "checkpoints", outside),
            "link at a checkpoint": lambda: link(checkpoint(run, self.steps), outside),
            "pipe at a file": lambda: pipe(run / self.random.choice(["metrics.jsonl", "run.json", ".lock"])),
            "pipe in a checkpoint": lambda: pipe(newest / self.random.choice(FILES)),
            "renamed checkpoint": lambda: newest.rename(checkpoint(run, self.steps - 1)),
            "stray names": lambda: [shutil.copytree(newest, run / "checkpoints" / name)
                                    for name in ("step-9", "step-4", f"step-{self.steps:09}")],
            "checkpoint of another run": lambda: self.foreign_checkpoint(run),
            "deep manifest": lambda: (newest / "manifest.json").write_text(deep),
            "deep state": lambda: (newest / "state.json").write_text(deep),
            "deep run.json": lambda: (run / "run.json").write_text(deep),
            "deep metrics": lambda: (run / "metrics.jsonl").write_text(deep + "\n"),
            "deep result": lambda: (run / "result.json").write_text(deep),
            "left files": lambda: [(run / name).write_text("half") for name in (".ufp4-01.tmp", ".ufp4-9-9.tmp")],
        }
        kind = self.random.choice(sorted(kinds))
        kinds[kind]()
        for verb in (["analyze", str(run), "--formats", "e2m1"], None):
            ended = self.end(self.start([self.ufp4, *verb])) if verb else self.train(run)
            require(ended.code in (0, 2), f"{run}: {kind} ends it otherwise", ended)
            require(ended.code == 0 or "ufp4: error: " in ended.errors, f"{run}: {kind}: no message", ended)
        if ended.code == 0:
            require((checkpoint(run, self.steps) / "model.safetensors").read_bytes() == self.last["model.safetensors"],
                    f"{run}: {kind} changed the weights", ended)
        require(sorted(path.name for path in outside.iterdir()) == ["victim"]
                and (outside / "victim").read_text() == "mine", f"{run}: {kind} changed what is outside the run", ended)
        self.figures["hostile files"] += 1

    def foreign_checkpoint(self, run):
        other = run.parent / "other"
        change = self.random.choice(["train.seed=5", "recipe.base=e2m1", "optimizer.lr=0.002"])
        ended = self.train(other, "--set", change)
        require(ended.code == 0, f"another run with {change} fails", ended)
        step = steps_saved(other)[-1]
        shutil.copytree(checkpoint(other, step), checkpoint(run, step), dirs_exist_ok=True)

    def two_processes(self):
        run = self.new("run")
        processes = [self.start(self.command(run)) for _ in range(2)]
        time.sleep(self.random.uniform(0, self.seconds))
        if self.random.random() < 0.5:
            self.random.choice(processes).kill()
        for ended in map(self.end, processes):
            require(ended.code in (0, 2, -signal.SIGKILL), f"{run}: one of two processes fails", ended)
            if ended.code == 2:
                require("is being written by" in ended.errors, f"{run}: refused for another reason", ended)
                self.figures["second processes refused"] += 1
        self.figures["pairs of processes"] += 1
        self.finish_whole(run)

    def killed_comparisons(self):
        folder = self.new("comparison")
        command = [self.ufp4, "compare", *MICRO, "--recipes", "bf16,ufp4", "--steps", "12", "--set",
                   "train.checkpoint_every=3", "--out"]
        if not hasattr(self, "comparison"):
            reference = self.work / "comparison"
            begin = time.monotonic()
            require(self.end(self.start([*command, str(reference)])).code == 0, "a comparison fails")
            self.comparison_seconds = time.monotonic() - begin
            self.comparison = self.without_rates(reference)
        for _ in range(self.random.randint(1, 3)):
            process = self.start([*command, str(folder)])
            time.sleep(self.random.uniform(0, self.comparison_seconds))
            process.kill()
            self.figures["kills of comparisons"] += self.end(process).code == -signal.SIGKILL
        ended = self.end(self.start([*command, str(folder)]))
        require(ended.code == 0, f"{folder} does not come to its end", ended)
        require(self.without_rates(folder) == self.comparison, f"{folder}: compare.json differs")

    @staticmethod
    def without_rates(folder):
        result = json.loads((folder / "compare.json").read_text())
        for run in result["runs"]:
            del run["tokens_per_s"]
        return result

    def trials(self):
        return [self.kills_at_random_moments, self.kills_at_system_calls, self.full_disks,
                self.limits_on_the_size_of_files, self.input_output_errors, self.stops_by_signals, self.bit_flips,
                self.truncations, self.damaged_files_of_the_run, self.hostile_files, self.two_processes,
                self.killed_comparisons]

    def every_call(self):
        """Kills at each call that a run makes, one after the other."""
        for call in range(1, self.calls + 1):
            run = self.new("run")
            ended = self.under_faults(run, call, "kill")
            require(ended.code == -signal.SIGKILL, f"{run}: call {call} of {self.calls} is not reached", ended)
            self.figures["kills at system calls"] += 1
            self.finish_whole(run)


def print_figures(soak, trials, begin):
    print(f"{trials} trials in {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)
    for name, count in sorted(soak.figures.items()):
        print(f"  {count:6} {name}", flush=True)


def main(arguments=None) -> int:
    root = Path(__file__).parents[2]
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.splitlines()[0])
    parser.add_argument("minutes", type=float, nargs="?", default=10, help="how long; 10 if not given")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the trials")
    parser.add_argument("--every-call", action="store_true", help="first kill at each system call of a run in turn")
    parser.add_argument("--ufp4", default=str(root / "build/release/bin/ufp4"), help="the program")
    options = parser.parse_args(arguments)
    print(f"soak: {options.minutes:g} minutes, --seed {options.seed}, {options.ufp4}", flush=True)
    work = Path(tempfile.mkdtemp(prefix="ufp4-soak-")).resolve()
    begin = last = time.monotonic()
    trials = 0
    trial = Soak.every_call
    soak = Soak(options.ufp4, work, options.seed, steps=18)
    print(f"a run takes {soak.seconds:.1f} s and makes {soak.calls} calls that change its folder", flush=True)
    try:
        if options.every_call:
            soak.every_call()
            trials += soak.calls
        while time.monotonic() < begin + 60 * options.minutes:
            trial = soak.random.choice(soak.trials())
            trial()
            trials += 1
            if time.monotonic() > last + 60:
                last = time.monotonic()
                print_figures(soak, trials, begin)
    except Loss as loss:
        print_figures(soak, trials, begin)
        print(f"soak: LOST in trial {trials + 1}, {trial.__name__}, files in {work}: {loss}", file=sys.stderr)
        return 1
    print_figures(soak, trials, begin)
    print("soak: nothing was lost")
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
