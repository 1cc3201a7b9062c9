"""The weights of a Hugging Face folder by name, out of safetensors files alone, and their names in a ufp4 model."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ufp4 import InputError
from ufp4.checks import shown
from ufp4.models.model_keys import ModelFacts, read_config
from ufp4.models.tensor_file import from_bfloat16

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_READABLE = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_MAX_HEADER = 100_000_000


class Shard:
    """A safetensors file: its header is checked before a tensor is given out."""

    def __init__(self, path: Path):
        self.path = path
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER):
                raise InputError(f"{path} is no safetensors file: {size} bytes, and a header of {length} is told of")
            text = file.read(length)
        try:
            header = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: its header is no JSON: {error}") from None
        if not isinstance(header, dict):
            raise InputError(f"{path}: its header is {shown(header)}, expected an object")
        header.pop("__metadata__", None)
        self.begin = 8 + length
        self.tensors: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
        for name, facts in header.items():
            self.tensors[name] = self._checked(name, facts, size - self.begin)
        end = 0
        for name, (_, _, first, last) in sorted(self.tensors.items(), key=lambda item: item[1][2:]):
            if first != end:
                raise InputError(f"{path}: tensor {shown(name)} begins at byte {first} of the data, expected {end}")
            end = last
        if end != size - self.begin:
            raise InputError(f"{path}: {size - self.begin} bytes of data, expected {end}; it is cut or has more")

    def _checked(self, name: str, facts: object, data: int) -> tuple[str, tuple[int, ...], int, int]:
        whole = lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62
        try:
            element, shape, (first, last) = facts["dtype"], facts["shape"], facts["data_offsets"]
            fine = isinstance(element, str) and all(map(whole, [*shape, first, last])) and first <= last <= data
        except (TypeError, KeyError, ValueError):
            fine = False
        if not fine:
            raise InputError(f"{self.path}: tensor {shown(name)} is {shown(facts)}, expected a dtype, a shape and data_offsets within the file")
        if element in _READABLE:
            expected = np.dtype(_READABLE[element]).itemsize
            for side in shape:
                expected *= side
            if expected != last - first:
                raise InputError(f"{self.path}: tensor {shown(name)}, {element} {shape}, has {last - first} bytes, expected {expected}")
        return element, tuple(shape), first, last

    def read(self, name: str) -> np.ndarray:
        """As float32."""
        element, shape, _, _ = self.tensors[name]
        if element not in _READABLE:
            raise InputError(f"{self.path}: tensor {shown(name)} is of type {element}, expected one of " + ", ".join(_READABLE))
        values = self.raw(name, _READABLE[element]).reshape(shape)
        values = from_bfloat16(values) if element == "BF16" else values.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise InputError(f"{self.path}: tensor {shown(name)} has values that are not finite")
        return values

    def raw(self, name: str, kind: type) -> np.ndarray:
        """Its bytes as a row of numbers of that kind."""
        _, _, first, last = self.tensors[name]
        with open(self.path, "rb") as file:
            file.seek(self.begin + first)
            data = file.read(last - first)
        if len(data) != last - first:
            raise InputError(f"{self.path} was cut while it was read")
        return np.frombuffer(data, dtype=kind)


class Weights:
    """All tensors of a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._shards: dict[str, Shard] = {}
        for path in _shard_files(folder):
            shard = Shard(path)
            for name in shard.tensors:
                if name in self._shards:
                    raise InputError(f"tensor {shown(name)} is in {self._shards[name].path} and in {path}, expected once")
                self._shards[name] = shard
        index = folder / _INDEX
        if index.is_file():
            for name, file in _weight_map(index).items():
                if name not in self._shards or self._shards[name].path.name != file:
                    raise InputError(f"{index}: tensor {shown(name)} is not in {shown(file)}, as it says")
        self._left = {name for name in self._shards if not name.endswith(".rotary_emb.inv_freq")}

    def has(self, name: str) -> bool:
        return name in self._shards

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in self._shards:
            raise InputError(f"{self.folder}: tensor '{name}' is missing, which config.json calls for")
        found = self._shards[name].tensors[name][1]
        if found != shape:
            raise InputError(f"{self._shards[name].path}: tensor '{name}' has the shape {list(found)}, expected {list(shape)} by config.json")
        self._left.discard(name)
        return self._shards[name].read(name)

    def check_all_taken(self) -> None:
        if self._left:
            raise InputError(f"{self.folder}: tensor {shown(min(self._left))} and {len(self._left) - 1} more have no place in the model of config.json")


def _weight_map(index: Path) -> dict[str, str]:
    found = read_config(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(file, str) for file in found.values()):
        raise InputError(f"{index}: 'weight_map' is {shown(found)}, expected the file of every tensor")
    return found


def _shard_files(folder: Path) -> list[Path]:
    index, single = folder / _INDEX, folder / _SINGLE
    if index.is_file():
        if single.is_file():
            raise InputError(f"{folder} has both {_INDEX} and {_SINGLE}, expected one of them")
        names = sorted(set(_weight_map(index).values()))
        for name in names:
            if "/" in name or "\\" in name or "\0" in name or name in (".", "..") or not name.endswith(".safetensors"):
                raise InputError(f"{index} names the file {shown(name)}, expected a safetensors file of the same folder")
            if not (folder / name).is_file():
                raise InputError(f"{folder / name} is missing, which {_INDEX} names")
        return [folder / name for name in names]
    if single.is_file():
        return [single]
    for pattern in _PICKLED:
        for path in sorted(folder.glob(pattern)):
            raise InputError(f"{path} is a pickle file, which can run code when it is read; it was not opened. Expected {_SINGLE} or {_INDEX}: "
                             "convert the folder with save_pretrained(.., safe_serialization=True) of transformers")
    raise InputError(f"{folder} has neither {_SINGLE} nor {_INDEX}")


# (name, shape) of a ufp4 parameter, and the tensors that stand one after the other in it.
Part = tuple[str, tuple[int, ...]]


def parameters(facts: ModelFacts) -> Iterator[tuple[str, tuple[int, ...], list[Part]]]:
    """In the order of the C++ model. The rotary pairs of both are (i, i + size / 2), so rows stay where they are."""
    keys, family = facts.keys, facts.family
    width, ffn, vocabulary = int(keys["d_model"]), int(keys["ffn"]), int(keys["vocab_size"])
    q, kv = facts.heads * facts.head_size, facts.kv_heads * facts.head_size

    def matrix(name: str, *parts: tuple[str, int], columns: int):
        rows = sum(count for _, count in parts)
        return name, (rows, columns), [(f"{part}.weight", (count, columns)) for part, count in parts]

    def vector(name: str, size: int, part: str):
        return name, (size,), [(part, (size,))]

    yield matrix("embedding", ("model.embed_tokens", vocabulary), columns=width)
    for i in range(int(keys["layers"])):
        own, theirs = f"layers.{i}.", f"model.layers.{i}."
        yield vector(own + "attention_norm", width, f"{theirs}{family.attention_norm}.weight")
        heads = [(f"{theirs}self_attn.{part}_proj", size) for part, size in (("q", q), ("k", kv), ("v", kv))]
        yield matrix(own + "linear_qkv", *heads, columns=width)
        if keys["qkv_bias"]:
            yield own + "qkv_bias", (q + 2 * kv,), [(f"{part}.bias", (size,)) for part, size in heads]
        if keys["qk_norm"]:
            whole = keys["qk_norm_width"] == "all"
            yield vector(own + "q_norm", q if whole else facts.head_size, f"{theirs}self_attn.q_norm.weight")
            yield vector(own + "k_norm", kv if whole else facts.head_size, f"{theirs}self_attn.k_norm.weight")
        yield matrix(own + "linear_proj", (f"{theirs}self_attn.o_proj", width), columns=q)
        yield vector(own + "ffn_norm", width, f"{theirs}{family.ffn_norm}.weight")
        yield matrix(own + "linear_fc1", (f"{theirs}mlp.gate_proj", ffn), (f"{theirs}mlp.up_proj", ffn), columns=width)
        yield matrix(own + "linear_fc2", (f"{theirs}mlp.down_proj", width), columns=ffn)
    yield vector("final_norm", width, "model.norm.weight")
    if not keys["tie_embeddings"]:
        yield matrix("lm_head", ("lm_head", vocabulary), columns=width)
