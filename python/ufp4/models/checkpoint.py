"""Checkpoints of ufp4 as Python reads and writes them: src/train/checkpoint.h has the files."""

import json
import os
import tomllib
from pathlib import Path

from ufp4 import InputError, __version__
from ufp4.checks import shown

FILES = ("config.toml", "model.safetensors", "optimizer.safetensors", "state.json")
MANIFEST = "manifest.json"
# What a folder of a model has beside it for its text, by the names of Hugging Face.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
                   "chat_template.jinja")


def checksum(path: Path) -> str:
    """As in the manifest."""
    import xxhash

    sum = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while piece := file.read(1 << 24):
            sum.update(piece)
    return sum.hexdigest()


def _facts(path: Path) -> dict[str, object]:
    return {"bytes": path.stat().st_size, "xxh128": checksum(path)}


def write_manifest(folder: Path) -> None:
    write_text(folder / MANIFEST, json.dumps({"format": 1, "files": {name: _facts(folder / name) for name in FILES}}, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    with open(path, "x") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def find(path: Path) -> Path:
    """The checkpoint at a path, or the newest of the run there."""
    if (path / "model.safetensors").is_file() and (path / MANIFEST).is_file():
        return path
    steps = sorted((path / "checkpoints").glob("step-[0-9]*")) if (path / "checkpoints").is_dir() else []
    steps = [step for step in steps if step.is_dir() and not step.is_symlink()]
    if not steps:
        raise InputError(f"{path} is no checkpoint (no model.safetensors with a manifest.json) and no run folder with one (no checkpoints/)")
    return max(steps, key=lambda step: int(step.name.removeprefix("step-")))


def verify(checkpoint: Path) -> None:
    """Every file has the size and checksum that the manifest says."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{checkpoint / MANIFEST} is no manifest: {error}") from None
    for name in FILES:
        path = checkpoint / name
        if not path.is_file():
            raise InputError(f"{path} is missing")
        if _facts(path) != files.get(name):
            raise InputError(f"{path} is damaged: found {_facts(path)}, {MANIFEST} says {shown(files.get(name))}")


def model_keys(checkpoint: Path) -> dict[str, object]:
    """The keys of its model."""
    path = checkpoint / "config.toml"
    try:
        found = tomllib.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise InputError(f"{path} has no settings: {error}") from None
    if not isinstance(found.get("model"), dict):
        raise InputError(f"{path} has no table [model]")
    return found["model"]


def tokenizer_home(path: Path) -> Path | None:
    """The folder with the tokenizer.json of a run or checkpoint; None if its tokens are bytes."""
    for folder in (path, path.parent.parent if path.parent.name == "checkpoints" else path):
        if (folder / "tokenizer.json").is_file():
            return folder
    return None


def settings_text(keys: dict[str, object]) -> str:
    """A config.toml with a model alone."""
    lines = [f"# Made by ufp4 {__version__} import.", "", "[model]"]
    for key, value in keys.items():
        lines.append(f"{key} = {json.dumps(value)}")  # for text without control characters, numbers and flags
    return "\n".join(lines) + "\n"


def state_text() -> str:
    """Of a model that was trained elsewhere."""
    return json.dumps({"step": 0, "tokens": 0, "skipped": 0, "skipped_in_row": 0, "data": {}, "data_fingerprint": ""}, indent=1) + "\n"
