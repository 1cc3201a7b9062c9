#!/usr/bin/env python3
"""Times training steps of a plain PyTorch model under torch.compile: what one would run without this project.

The model has the shapes of `ufp4 train --model` (docs/training.md): FP32 master weights, BF16 products, fused AdamW. Mode
`fp8` has the linears of the blocks trained in FP8 by torchao (tensor-wise scales), which must be installed for it. Every
other mode is a recipe of this project, under which ufp4.convert puts the linears of the blocks: the Python package, which
must be installed for it, or found with PYTHONPATH and --ops-library.

    benchmarks/torch_compile_step.py models/1.5b.toml --set vocab_size=32000 --batch 4 --modes bf16,ufp4,ufp4_p2

The step of `ufp4 train` with the same shapes and attention, and the share of its speed that a mode reaches:

    benchmarks/torch_compile_step.py .. --modes bf16,ufp4 --trainer build/cuda/bin/ufp4
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F


WARMUP = 4  # steps that are not measured


class Linear(nn.Linear):
    """An FP32 weight that is multiplied as BF16."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(torch.bfloat16))


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Heads [batch, heads, tokens, size] with rotary positions."""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(torch.bfloat16)


class Block(nn.Module):
    def __init__(self, d: int, heads: int, ffn: int):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.ffn_norm = nn.RMSNorm(d), nn.RMSNorm(d)
        self.qkv, self.proj = Linear(d, 3 * d), Linear(d, d)
        self.fc1, self.fc2 = Linear(d, 2 * ffn), Linear(ffn, d)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        batch, tokens, d = x.shape
        qkv = self.qkv(self.attention_norm(x).to(torch.bfloat16)).view(batch, tokens, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(turned(q, cos, sin), turned(k, cos, sin), v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, tokens, d))
        gate, up = self.fc1(self.ffn_norm(x).to(torch.bfloat16)).chunk(2, -1)
        return x + self.fc2(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, shape: dict):
        super().__init__()
        d, vocabulary = shape["d_model"], shape["vocab_size"]
        self.embedding = nn.Embedding(vocabulary, d)
        self.blocks = nn.ModuleList([Block(d, shape["heads"], shape["ffn"]) for _ in range(shape["layers"])])
        self.norm = nn.RMSNorm(d)
        self.head = Linear(d, vocabulary)
        size = d // shape["heads"]
        angles = torch.arange(shape["context"])[:, None] / 10000 ** (torch.arange(0, size, 2) / size)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens).to(torch.bfloat16)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.loss(x, targets)

    def loss(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.head(self.norm(x).to(torch.bfloat16))
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    def compile_parts(self) -> None:
        """One graph for all blocks and one for the loss, which take seconds to compile where the whole model takes minutes."""
        for block in self.blocks:
            block.compile()
        self.loss = torch.compile(self.loss)  # type: ignore[method-assign]


def with_torchs_linears(model: Model) -> None:
    """Makes those of the blocks plain ones, which converters know."""
    for block in model.blocks:
        for name in ("qkv", "proj", "fc1", "fc2"):
            getattr(block, name).__class__ = nn.Linear


def train_in_fp8(model: Model) -> None:
    """Makes torchao's FP8 linears of those in the blocks."""
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    with_torchs_linears(model)
    convert_to_float8_training(model.blocks, config=Float8LinearConfig.from_recipe_name("tensorwise"))


def train_under_recipe(model: Model, recipe: str) -> None:
    import ufp4

    with_torchs_linears(model)
    ufp4.convert(model.blocks, recipe, seed=1, quiet=True)


def report(mode: str, ms: float, tokens: int, more: str) -> float:
    print(f"{mode}: {ms:.1f} ms a step, {1e3 * tokens / ms:,.0f} tokens/s{more}", flush=True)
    return ms


def measure(shape: dict, mode: str, options: argparse.Namespace, device: torch.device) -> float:
    """Prints the median step of a mode, and gives it in ms."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()  # of the mode before
    model = Model(shape).to(device)
    if mode == "fp8":
        train_in_fp8(model)
    elif mode != "bf16":
        train_under_recipe(model, mode)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    if options.compile == "blocks":
        model.compile_parts()
    compiled = torch.compile(model) if options.compile == "model" else model
    tokens = torch.randint(shape["vocab_size"], (options.batch, shape["context"] + 1), device=device)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def step() -> float:
        start = time.perf_counter()
        compiled(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronize()
        return 1e3 * (time.perf_counter() - start)

    begun = time.perf_counter()
    for _ in range(WARMUP):
        step()
    compiling = time.perf_counter() - begun
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ms = statistics.median(step() for _ in range(options.steps))
    memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else ""
    return report(mode, ms, options.batch * shape["context"], f"{memory}, ready after {compiling:.0f} s")


def measure_trainer(shape: dict, recipe: str, options: argparse.Namespace, device: torch.device) -> float:
    """The same of `ufp4 train` with the same attention, in a process of its own. It is ended after the steps: a checkpoint
    of a large model would take longer than they do."""
    settings = [f"model.{entry}" for entry in options.set] + [f"train.batch={options.batch}", f"train.micro_batch={options.batch}",
                                                              "train.attention=fast", "train.checkpoint_every=0", "train.eval_every=0"]
    with tempfile.TemporaryDirectory() as folder:
        metrics, log = Path(folder, "run", "metrics.jsonl"), Path(folder, "log")
        command = [options.trainer, "train", "--model", options.model, "--recipe", recipe, "--data", "builtin", "--device", device.type,
                   "--out", f"{folder}/run", *(word for setting in settings for word in ("--set", setting))]
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            steps: list[dict] = []
            while len(steps) < WARMUP + options.steps:
                ended = process.poll() is not None
                lines = metrics.read_text().splitlines(keepends=True) if metrics.is_file() else []
                steps = [json.loads(line) for line in lines if line.endswith("\n") and '"loss"' in line]
                if ended:
                    sys.exit(f"{' '.join(command)} ended after {len(steps)} steps\n{log.read_text()[-3000:]}")
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
    tokens = options.batch * shape["context"]
    ms = 1e3 * tokens / statistics.median(step["tokens_per_s"] for step in steps[WARMUP:])
    return report(f"ufp4 train, {recipe}", ms, tokens, f", {max(step['memory_bytes'] for step in steps) / 2**30:.1f} GiB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a file of models/")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes a key of the model")
    parser.add_argument("--modes", default="bf16", help="bf16, fp8 and names of recipes, with commas between (default: bf16)")
    parser.add_argument("--batch", type=int, default=4, help="sequences a step (default: 4)")
    parser.add_argument("--steps", type=int, default=10, help=f"measured, after {WARMUP} more (default: 10)")
    parser.add_argument("--compile", choices=("model", "blocks", "none"), default="model",
                        help="what torch.compile takes: the model, or one block for all and the loss, which is ready sooner (default: model)")
    parser.add_argument("--trainer", metavar="PATH", help="the program ufp4, whose step of the same recipes is measured too")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--ops-library", metavar="PATH", help="the operators of a build, in place of the installed package's")
    arguments = parser.parse_args()
    with open(arguments.model, "rb") as file:
        shape = tomllib.load(file)
    numbers = [key for key, value in shape.items() if isinstance(value, int)]
    for entry in arguments.set:
        key, _, value = entry.partition("=")
        if key not in numbers or not value.isdecimal():
            parser.error(f"--set {entry}: expected KEY=NUMBER, where KEY is one of {', '.join(numbers)}")
        shape[key] = int(value)
    if shape["vocab_size"] == 0:
        parser.error("the vocabulary of the model is that of its data: choose one, for instance --set vocab_size=32000")
    modes = arguments.modes.split(",")
    if recipes := [mode for mode in modes if mode not in ("bf16", "fp8")]:
        import ufp4
        import ufp4.library

        if arguments.ops_library:
            ufp4.library.use(arguments.ops_library)
        for recipe in recipes:
            ufp4.Recipe(recipe)  # raises, before anything is measured, where there is none
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; --device cpu shows that the program runs")
    torch.set_float32_matmul_precision("high")
    found = {mode: measure(shape, mode, arguments, device) for mode in modes}
    trained = {mode: measure_trainer(shape, mode, arguments, device) for mode in modes if arguments.trainer and mode != "fp8"}
    if "bf16" in found:
        print(", ".join(f"{mode} {found['bf16'] / ms:.3f}" for mode, ms in found.items()) + " times the speed of bf16")
    if trained:
        print(", ".join(f"{mode} {ms / found[mode]:.3f}" for mode, ms in trained.items()) + " times the speed of ufp4 train")
    return 0


if __name__ == "__main__":
    sys.exit(main())
