"""The smallest training that has all parts."""

import json
from pathlib import Path

MICRO = ["--data", "builtin", "--device", "cpu", "--set", "model.name=micro", "--set", "model.d_model=32", "--set",
         "model.layers=2", "--set", "model.heads=2", "--set", "model.ffn=64", "--set", "model.context=32", "--set",
         "train.batch=2", "--set", "train.threads=1", "--set", "data.val_tokens=64"]


def steps_of(run: Path):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def wait_for_step(program, process, run: Path, step: int):
    metrics = run / "metrics.jsonl"
    program.wait_for(process, lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= step)
