"""Run and compare folders as `ufp4 train` and `ufp4 compare` write them, with invented losses."""

import json
import math
import random


def write_run(folder, recipe, seed, steps=400, entropy_rate=None, gain=0.0):
    folder.mkdir(parents=True)
    info = {
        "ufp4_version": "0.1.0",
        "torch_version": "2.11.0",
        "recipe": {"name": recipe, "fprop.hadamard": "16"},
        "model": {"name": "tiny", "parameters": 1_234_567, "layers": 4},
        "device": "cpu",
        "gemm": "emulated: fp32 (no fast bf16 here)",
        "backend": "avx2",
        "seed": seed,
        "config": {"train.steps": steps, "train.lr": 0.003, "data.files": "<b>books & more</b>"},
        "entropy_rate": entropy_rate,
    }
    (folder / "run.json").write_text(json.dumps(info))
    noise = random.Random(seed)  # the same data, and so much the same noise, for all recipes of a seed
    own = random.Random(f"{recipe}{seed}")
    with open(folder / "metrics.jsonl", "w") as file:
        for step in range(1, steps + 1):
            loss = 2 + 3.5 * math.exp(-step / 80) + noise.gauss(0, 0.08) + own.gauss(0, 0.01)
            record = {
                "step": step, "loss": loss * (1 + gain * (1 + 0.3 * own.random())), "grad_norm": 1.0, "lr": 0.003,
                "tokens": step * 4096, "tokens_per_s": 15000 * (1 - 12 * gain) + own.gauss(0, 200), "tflops": 0.1,
                "memory_bytes": int(600e6 * (1 + 4 * gain)),
            }
            file.write(json.dumps(record) + "\n")
            if step % 100 == 0:
                file.write(json.dumps({"step": step, "val_loss": loss * (1 + gain) + 0.05}) + "\n")
    return folder


def write_comparison(folder, seeds=3, steps=400, entropy_rate=1.7, summary=True):
    gains = {"bf16": 0.0, "e2m1": 0.013, "ufp4": 0.0097}
    for recipe, gain in gains.items():
        for seed in range(seeds):
            write_run(folder / "runs" / f"{recipe}-seed{seed}", recipe, seed, steps, entropy_rate, gain)
    if summary:
        runs = [
            {"recipe": r, "seed": s, "steps": steps, "tokens": steps * 4096, "train_loss": (2 + 0.01 * s) * (1 + g + 1e-4 * s * g),
             "val_loss": 2.05 * (1 + g), "tokens_per_s": 15000 * (1 - 12 * g)}
            for r, g in gains.items() for s in range(seeds)
        ]
        rows = [
            {"recipe": r, "val_loss_mean": 2.05 * (1 + g), "val_loss_sem": 0.004 if seeds > 1 else None,
             "degradation_percent_mean": 100 * g, "degradation_percent_sem": 0.01 if seeds > 1 else None}
            for r, g in gains.items()
        ]
        (folder / "compare.json").write_text(json.dumps({"runs": runs, "summary": rows}, indent=1))
    return folder
