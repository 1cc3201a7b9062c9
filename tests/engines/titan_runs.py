"""Trains tiny models with ufp4.torchtitan on a CPU, one run after another, and writes what each logged.

    python titan_runs.py LIBRARY RUNS.json FOLDER

RUNS.json is a list of runs: a name, how many processes, the arguments, and whose seed checkpoint to begin with.
FOLDER/NAME.RANK.json then has the steps, losses and norms of gradients, some gradients of the first step, what was
logged, and what the clock said after each forward and backward pass; or the error that ended the run. The processes of a
run are forked, since importing takes longer than a run.
"""

import json
import logging
import os
import signal
import socket
import sys
import time
import traceback
import types
from pathlib import Path
from typing import Any

import titan_on_cpu
import torch

titan_on_cpu.patch()

import titan_specs  # noqa: E402, F401
import torch._dynamo  # noqa: E402
import torchtitan.train  # noqa: E402
from torch.distributed.tensor import DTensor  # noqa: E402

import ufp4.library  # noqa: E402
from ufp4.torchtitan import Trainer, train  # noqa: E402

COMMON = ["--model.flavor", "debugmodel", "--training.seq_len", "64", "--training.mixed_precision_param", "float32", "--metrics.log_freq", "1",
          "--metrics.disable_color_printing", "--lr_scheduler.warmup_steps", "1", "--optimizer.lr", "1e-3", "--optimizer.implementation", "for-loop",
          "--debug.seed", "1", "--comm.trace_buf_size", "0", "--training.max_norm", "1e9", "--lr_scheduler.decay_ratio", "0"]
SECONDS_FOR_A_RUN = 300


def computes(event: Any) -> bool:
    """Whether an event is a forward product that was computed: that makes tensors. One that selective checkpointing kept,
    and one on its way through its bookkeeping, makes none itself."""
    return event.name == "ufp4::linear_forward" and any(child.name == "aten::empty" for child in event.cpu_children)


def gradients(parts: list[torch.nn.Module]) -> dict[str, list[float]]:
    """Of the outputs of attention, every 16th element of the whole gradient."""
    result = {}
    for part in parts:
        for name, parameter in part.named_parameters():
            name = name.replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", "")
            if name.endswith("attention.wo.weight"):
                whole = parameter.grad.full_tensor() if isinstance(parameter.grad, DTensor) else parameter.grad
                result[name] = whole.flatten()[::16].tolist()
    return result


def train_once(arguments: list[str], plain: bool) -> dict[str, Any]:
    """One run in this process, which is one of the run's."""
    found: dict[str, Any] = {"steps": [], "loss": [], "grad_norm": [], "clock": [], "lines": [], "gradients": {}}

    class Recorded(Trainer):
        def __init__(self, config: Any):
            logging.getLogger().addHandler(Lines())  # here, since torchtitan removes the handlers that it finds
            super().__init__(config)
            log = self.metrics_processor.log

            def record(step: int, loss: float, largest: float, norm: float, **others: Any) -> None:
                found["steps"].append(step)
                found["loss"].append(loss)
                found["grad_norm"].append(norm)
                log(step, loss, largest, norm, **others)

            self.metrics_processor.log = record

        def forward_backward_step(self, **named: Any) -> torch.Tensor:
            if self.step == 1 and not found["clock"]:
                with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                    loss = super().forward_backward_step(**named)
                found["forward_products"] = sum(map(computes, profile.events()))
            else:
                loss = super().forward_backward_step(**named)
            clock = self.ufp4_clock
            if clock is not None:
                found["clock"].append([clock.step, clock.first_token, clock.rank, clock.ranks, clock.pending()])
            return loss

        def train_step(self, data_iterator: Any) -> None:
            super().train_step(data_iterator)
            if not found["gradients"]:
                found["gradients"] = gradients(self.model_parts)

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found["lines"] += record.getMessage().splitlines()

    try:
        train.main([*COMMON, *arguments], torchtitan.train.Trainer if plain else Recorded)
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    found["graphs"] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return found


def fork(run: dict[str, Any], rank: int, port: int, folder: Path) -> int:
    """Starts process `rank` of a run and gives its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        processes = run["processes"]
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(processes),
                          MASTER_ADDR="localhost", MASTER_PORT=str(port))
        log = os.open(folder / f"{run['name']}.{rank}.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # Runs of one checkpoint share a folder.
        arguments = ["--job.dump_folder", str(folder / run.get("folder", run["name"])), *run["arguments"]]
        arguments = [argument.replace("FOLDER", str(folder)) for argument in arguments]
        if "seed" in run:
            arguments += ["--checkpoint.enable", "--checkpoint.initial_load_path", str(folder / run["seed"] / "checkpoint" / "step-0")]
        found = train_once(arguments, run.get("plain", False))
        (folder / f"{run['name']}.{rank}.json").write_text(json.dumps(found))
        code = 0
    finally:
        os._exit(code)


def wait(children: list[int]) -> None:
    until = time.monotonic() + SECONDS_FOR_A_RUN
    left = set(children)
    while left:
        left -= {child for child in left if os.waitpid(child, os.WNOHANG)[0]}
        if time.monotonic() > until:
            for child in left:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            return
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return int(listener.getsockname()[1])


def main() -> None:
    library, runs, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    ufp4.library.use(library)
    ufp4.library.load()
    torch.set_num_threads(1)
    torchtitan.train.time = types.SimpleNamespace(sleep=lambda _: None, perf_counter=time.perf_counter)  # 2 s at the end of a run
    for run in json.loads(runs.read_text()):
        begun, port = time.monotonic(), free_port()
        wait([fork(run, rank, port, folder) for rank in range(run["processes"])])
        print(f"{run['name']}: {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main()
