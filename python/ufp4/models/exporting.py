"""ufp4 export: the model of a run as a folder that transformers loads."""

import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ufp4 import InputError
from ufp4.models import checkpoint, tokenizer
from ufp4.models.model_keys import ModelFacts, config_of, exported_facts
from ufp4.models.tensor_file import bfloat16_bits, size_of, write_tensors
from ufp4.models.weights import Shard, parameters

_DTYPES = {"bf16": ("BF16", "bfloat16", bfloat16_bits), "fp32": ("F32", "float32", lambda array: array)}
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

# A tensor of the exported folder: name, element, shape and what makes its bytes when they are written.
Tensor = tuple[str, str, tuple[int, ...]]


def bytes_of(text: str) -> int:
    """Of "500MB", "5GB", "4GiB"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip(), re.ASCII | re.IGNORECASE)
    unit = _UNITS.get(found[2].upper()) if found else None
    if unit is None or (size := int(float(found[1]) * unit)) < 1:
        raise InputError(f"--shard-size is '{text}', expected bytes such as 500MB, 5GB or 4GiB")
    return size


def export_model(run: Path, out: Path, dtype: str = "bf16", shard_size: str = "5GB", packing: str | None = None,
                 program: str | None = None) -> str:
    """Writes the folder `out`, which must not be there. Returns a line about it."""
    if dtype not in _DTYPES:
        raise InputError(f"--dtype is '{dtype}', expected one of " + ", ".join(_DTYPES))
    limit = bytes_of(shard_size)
    if not run.is_dir():
        raise InputError(f"'{run}' is no folder; expected one that 'ufp4 train' or 'ufp4 import' wrote")
    if os.path.lexists(out):
        raise InputError(f"'{out}' exists; an export writes over nothing, choose another name")
    source = checkpoint.find(run)
    checkpoint.verify(source)
    facts = exported_facts(checkpoint.model_keys(source), source / "config.toml")
    if packing is not None:
        from ufp4.models import packing as packings

        packed = packings.Packing(packing, program)
    hidden = out.parent / f".{out.name}.new"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    try:
        weights = _Parameters(source, facts)
        element, named, convert = _DTYPES[dtype]
        if packing is None:
            specs = [(name, element, shape) for name, shape in weights.parts()]
            arrays = (convert(weights.read(name)) for name, _, _ in specs)
            extra: dict[str, object] = {}
        else:
            specs, arrays, extra = packed.tensors(weights, hidden, element, convert)
        files = _write_shards(hidden, specs, arrays, limit)
        said, ids = _write_tokenizer(run, source, facts, hidden)
        _write_json(hidden / "config.json", config_of(facts, named, ids) | extra)
        generation = {key: value for key, value in ids.items() if value is not None}
        if not (hidden / "generation_config.json").exists():
            _write_json(hidden / "generation_config.json", {"_from_model_config": True, **generation})
        os.rename(hidden, out)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    form = dtype.upper() if packing is None else f"{packing}, the rest {dtype.upper()}"
    return f"{out}: {facts.family.architecture} in {files} {'file' if files == 1 else 'files'}, {form}; {said}"


class _Parameters:
    """The tensors of a checkpoint by their names in Hugging Face's layout."""

    def __init__(self, source: Path, facts: ModelFacts):
        self._file = Shard(source / "model.safetensors")
        self._places: dict[str, tuple[str, int, tuple[int, ...]]] = {}
        names = set()
        for own, shape, parts in parameters(facts):
            if own not in self._file.tensors or self._file.tensors[own][1] != shape:
                raise InputError(f"{self._file.path}: tensor '{own}' of the shape {list(shape)} is missing")
            names.add(own)
            row = 0
            for name, part_shape in parts:
                self._places[name] = (own, row, part_shape)
                row += part_shape[0]
        if unknown := set(self._file.tensors) - names:
            raise InputError(f"{self._file.path}: tensor '{min(unknown)}' has no place in a {facts.family.architecture}")
        self._kept: tuple[str, np.ndarray] | None = None  # the last one read: its parts come one after the other

    def parts(self) -> list[tuple[str, tuple[int, ...]]]:
        return [(name, shape) for name, (_, _, shape) in self._places.items()]

    def read(self, name: str) -> np.ndarray:
        own, row, shape = self._places[name]
        if self._kept is None or self._kept[0] != own:
            self._kept = (own, self._file.read(own))
        return self._kept[1][row : row + shape[0]]


def _write_shards(folder: Path, specs: list[Tensor], arrays: Iterator[np.ndarray], limit: int) -> int:
    """As many files as the limit calls for; a tensor beyond it has one of its own."""
    shards: list[list[Tensor]] = [[]]
    used = 0
    for spec in specs:
        size = size_of(*spec[1:])
        if shards[-1] and used + size > limit:
            shards.append([])
            used = 0
        shards[-1].append(spec)
        used += size
    places = {}
    for number, shard in enumerate(shards, start=1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        # Each takes its own share of the one iterator.
        write_tensors(folder / name, shard, (next(arrays) for _ in shard), {"format": "pt"})
        places |= {spec[0]: name for spec in shard}
    if len(shards) > 1:
        total = sum(size_of(*spec[1:]) for spec in specs)
        _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})
    return len(shards)


def _write_tokenizer(run: Path, source: Path, facts: ModelFacts, out: Path) -> tuple[str, dict[str, object]]:
    """What a person is told of it, and the ids for config.json."""
    home = checkpoint.tokenizer_home(source) or checkpoint.tokenizer_home(run)
    if home is not None:
        for name in checkpoint.TOKENIZER_FILES:
            if (home / name).is_file():
                shutil.copyfile(home / name, out / name)
        return f"tokenizer of {home}", _special_ids(out)
    if not _is_of_bytes(source) or int(facts.keys["vocab_size"]) < tokenizer.BYTE_VOCABULARY:
        return "no tokenizer: the run has none", {}
    made = tokenizer.byte_tokenizer()
    made.save(str(out / "tokenizer.json"))
    end = "<|endoftext|>"
    _write_json(out / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": end, "eos_token": end,
        "model_max_length": int(facts.keys["context"]), "clean_up_tokenization_spaces": False})
    return "tokens are bytes", {"bos_token_id": tokenizer.END_OF_DOCUMENT, "eos_token_id": tokenizer.END_OF_DOCUMENT}


def _is_of_bytes(source: Path) -> bool:
    """Whether the run read text as it is."""
    settings = tomllib.loads((source / "config.toml").read_text())
    trained = json.loads((source / "state.json").read_bytes()).get("data_fingerprint") != ""
    files = settings.get("data", {}).get("train", [])
    return trained and not any(str(file).endswith(".bin") for file in files)


def _special_ids(folder: Path) -> dict[str, object]:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    from ufp4.models.model_keys import read_config

    config, loaded = read_config(path), tokenizer.load(folder / "tokenizer.json")
    ids = {}
    for kind in ("bos", "eos", "pad"):
        token = config.get(f"{kind}_token")
        token = token.get("content") if isinstance(token, dict) else token
        number = loaded.token_to_id(token) if isinstance(token, str) else None
        if number is not None:
            ids[f"{kind}_token_id"] = number
    return ids


def _write_json(path: Path, value: object) -> None:
    checkpoint.write_text(path, json.dumps(value, indent=2) + "\n")
