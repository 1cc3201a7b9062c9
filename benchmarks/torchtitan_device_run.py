#!/usr/bin/env python3
"""Trains a 350M Llama 3 with torchtitan on one GPU, in BF16 and under recipes, and prints losses and tokens/s beside each
other. Two runs of 100 steps take under 4 minutes on an H200.

    benchmarks/torchtitan_device_run.py
    benchmarks/torchtitan_device_run.py --recipes bf16,ufp4,ufp4_p2 --steps 200 --out results.json
    benchmarks/torchtitan_device_run.py --model moe          a small DeepSeek-V3, its grouped experts in BF16

The tokens are synthetic and the same in each run: nothing is downloaded. Needed beside torch 2.11 and ufp4 (installed, or
found with PYTHONPATH and --ops-library): torchtitan 0.2.2, torchdata 0.11.0, tyro, docstring_parser and typeguard.
"""

import argparse
import dataclasses
import importlib
import importlib.machinery
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = 32768
LOG_EVERY = 10


def stand_in_for_text() -> None:
    """torchtitan imports what reads text with each of its models. These runs read none, so that packages that are missing
    here are replaced by modules whose names are classes without use."""

    class Missing(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    for name in ("datasets", "datasets.distributed", "tokenizers", "requests", "tensorboard", "torch.utils.tensorboard"):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = Missing(name)
            sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)


def synthetic(rows: int, length: int, vocabulary: int) -> Any:
    """[rows, length + 1] tokens: one of 4 successors of the token before, the first of them most often, or a frequent token."""
    import torch

    generator = torch.Generator().manual_seed(1)
    successors = torch.stack([torch.randperm(vocabulary, generator=generator) for _ in range(4)])
    frequencies = 1.0 / torch.arange(1, vocabulary + 1)
    choices = torch.multinomial(torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1]), rows * length, True, generator=generator).view(length, rows)
    others = torch.multinomial(frequencies, rows * (length + 1), True, generator=generator).view(length + 1, rows)
    tokens = [others[0]]
    for i in range(length):
        following = successors[choices[i].clamp(max=3), tokens[-1]]
        tokens.append(torch.where(choices[i] == 4, others[i + 1], following))
    return torch.stack(tokens, 1)


def register(options: argparse.Namespace) -> None:
    """The train spec "benchmark": the model on synthetic tokens, without a tokenizer."""
    from torch.utils.data import IterableDataset
    from torchtitan.components.dataloader import ParallelAwareDataloader
    from torchtitan.protocols.train_spec import get_train_spec, register_train_spec

    if options.model == "350m":
        spec = get_train_spec("llama3")
        sizes = dict(dim=64, n_layers=2, n_heads=4) if options.cpu else dict(dim=1024, n_layers=24, n_heads=16)
        arguments = dataclasses.replace(spec.model_args["debugmodel"], vocab_size=options.vocabulary, **sizes)
    else:
        spec = get_train_spec("deepseek_v3")
        sizes = {} if options.cpu else dict(dim=1024, inter_dim=2816, moe_inter_dim=512, n_layers=12)
        arguments = dataclasses.replace(spec.model_args["debugmodel"], vocab_size=options.vocabulary, **sizes)

    class Rows(IterableDataset):
        def __init__(self) -> None:
            # Few enough that each is seen hundreds of times.
            self.tokens = synthetic(options.batch * options.steps, options.length, min(options.vocabulary, 4096))

        def __iter__(self) -> Iterator[tuple[dict[str, Any], Any]]:
            for row in self.tokens:
                yield {"input": row[:-1]}, row[1:]

    def build_dataloader(dp_world_size: int, dp_rank: int, tokenizer: Any, job_config: Any) -> ParallelAwareDataloader:
        return ParallelAwareDataloader(Rows(), dp_rank=dp_rank, dp_world_size=dp_world_size, batch_size=options.batch)

    register_train_spec("benchmark", dataclasses.replace(spec, model_args={"benchmark": arguments}, build_dataloader_fn=build_dataloader,
                                                         build_tokenizer_fn=None, build_validator_fn=None))


def train(options: argparse.Namespace) -> None:
    """One run, in a process of its own; writes what it logged to options.result."""
    stand_in_for_text()
    import torch

    if options.cpu:
        sys.path.insert(0, str(ROOT / "tests" / "engines"))
        import titan_on_cpu

        titan_on_cpu.patch()
    if options.ops_library:
        import ufp4.library

        ufp4.library.use(options.ops_library)
    from ufp4.torchtitan import Trainer, train

    register(options)
    log: list[list[float]] = []

    class Timed(Trainer):
        def __init__(self, config: Any):
            super().__init__(config)
            write = self.metrics_processor.log

            def record(step: int, loss: float, largest: float, norm: float, **others: Any) -> None:
                log.append([step, float(loss), time.perf_counter()])  # the loss was waited for
                write(step, loss, largest, norm, **others)

            self.metrics_processor.log = record

    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1", MASTER_ADDR="localhost", MASTER_PORT=str(port))
    arguments = ["--job.dump_folder", str(Path(options.result).parent), "--model.name", "benchmark", "--model.flavor", "benchmark",
                 "--training.seq_len", str(options.length), "--training.local_batch_size", str(options.batch), "--training.steps", str(options.steps),
                 "--optimizer.lr", "1e-3", "--lr_scheduler.warmup_steps", "20", "--activation_checkpoint.mode", "none", "--debug.seed", "1",
                 "--metrics.log_freq", str(LOG_EVERY), "--metrics.disable_color_printing", "--comm.trace_buf_size", "0"]
    if options.cpu:
        arguments += ["--training.mixed_precision_param", "float32", "--optimizer.implementation", "for-loop"]
    elif options.compile:
        arguments += ["--compile.enable"]
    if options.one != "bf16":
        arguments += ["--model.converters", "quantize.linear.ufp4", "--ufp4.recipe", options.one]
    train.main(arguments, Timed)
    memory = 0.0 if options.cpu else torch.cuda.max_memory_allocated() / 2**30
    device = "CPU" if options.cpu else torch.cuda.get_device_name()
    Path(options.result).write_text(json.dumps({"log": log, "memory_gib": memory, "device": device, "torch": torch.__version__}))


def speed(found: dict[str, Any], tokens: int) -> float:
    """Tokens a second over the logged steps after the first third."""
    log = found["log"]
    begin = max(1, len(log) // 3)
    return tokens * (log[-1][0] - log[begin][0]) / (log[-1][2] - log[begin][2]) if len(log) > begin + 1 else float("nan")


def table(results: dict[str, dict[str, Any]], options: argparse.Namespace) -> str:
    done = {name: found for name, found in results.items() if "log" in found}
    failed = [f"{name}: {found['error']}" for name, found in results.items() if "error" in found]
    if not done:
        return "\n".join(failed)
    first = next(iter(done))
    base = done[first]
    tokens = options.batch * options.length
    header = ["step", *(f"loss {name}" for name in done), *(f"{name} - {first}" for name in done if name != first)]
    rows = []
    for i, (step, _, _) in enumerate(base["log"]):
        losses = {name: found["log"][i][1] for name, found in done.items() if i < len(found["log"])}
        if len(losses) == len(done):
            rows.append([str(int(step)), *(f"{loss:.4f}" for loss in losses.values()),
                         *(f"{loss - losses[first]:+.4f}" for name, loss in losses.items() if name != first)])
    rows.append(["tokens/s", *(f"{speed(found, tokens):,.0f}" for found in done.values()),
                 *(f"x {speed(found, tokens) / speed(base, tokens):.3f}" for name, found in done.items() if name != first)])
    rows.append(["GiB", *(f"{found['memory_gib']:.1f}" for found in done.values()), *("" for _ in range(len(done) - 1))])
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in [header, *rows]]
    about = (f"{options.model}, {tokens:,} tokens a step, {'torch.compile' if options.compile and not options.cpu else 'eager'}, "
             f"{base['device']}, torch {base['torch']}")
    return "\n".join([about, *lines, *failed])


def run(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What the run of a recipe wrote, or the error that ended it."""
    result, log = folder / f"{name}.json", folder / f"{name}.log"
    print(f"{name}: {options.steps} steps, log in {log}", flush=True)
    with log.open("w") as output:
        try:
            code = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", name, "--result", str(result)], stdout=output,
                                  stderr=subprocess.STDOUT, timeout=options.seconds).returncode
        except subprocess.TimeoutExpired:
            code = f"more than {options.seconds} s"
    if result.is_file():
        return json.loads(result.read_text())
    print(log.read_text()[-6000:])
    return {"error": f"ended without a result ({code})"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("350m", "moe"), default="350m")
    parser.add_argument("--recipes", default="bf16,ufp4", help="runs: bf16, and names of recipes (bf16,ufp4)")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16, help="sequences a step (16)")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a sequence (2048)")
    parser.add_argument("--eager", dest="compile", action="store_false", help="without torch.compile")
    parser.add_argument("--seconds", type=int, default=110, help="a run that takes longer is ended (110)")
    parser.add_argument("--ops-library", metavar="PATH", help="the shared object of the operators, where ufp4 is not installed")
    parser.add_argument("--out", metavar="FILE", type=Path, help="the figures as JSON")
    parser.add_argument("--cpu", action="store_true", help="tiny models on the CPU, to try this program")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.vocabulary = 256 if options.cpu else VOCABULARY
    if options.one:
        train(options)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        results = {name: run(name, options, Path(folder)) for name in options.recipes.split(",")}
    print(table(results, options))
    if options.out:
        options.out.write_text(json.dumps(results))
    return 1 if any("error" in found for found in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
