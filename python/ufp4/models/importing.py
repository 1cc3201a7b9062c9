"""ufp4 import: a folder of Hugging Face's layout becomes a checkpoint."""

import os
import re
import shutil
from pathlib import Path

import numpy as np

from ufp4 import InputError
from ufp4.checks import shown
from ufp4.models import checkpoint
from ufp4.models.model_keys import ModelFacts, model_facts, read_config
from ufp4.models.tensor_file import write_tensors
from ufp4.models.weights import Weights, parameters


def import_model(folder: Path, out: Path, context: int | None = None) -> str:
    """Writes the checkpoint `out`, which must not be there. Returns a line about it."""
    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder; expected one with config.json and safetensors files")
    if os.path.lexists(out):
        raise InputError(f"'{out}' exists; choose another name for the checkpoint")
    if context is not None and context < 1:
        raise InputError(f"--context is {context}, expected a whole number above 0")
    facts = model_facts(folder / "config.json", context, re.sub(r"[^\w.-]", "_", out.name, flags=re.ASCII) or "imported")
    _check_tokenizer(folder, int(facts.keys["vocab_size"]))
    weights = Weights(folder)
    _check_head(weights, facts)
    hidden = out.parent / f".{out.name}.new"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    try:
        _write(hidden, facts, weights)
        for name in checkpoint.TOKENIZER_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, hidden / name)
        checkpoint.write_manifest(hidden)
        os.rename(hidden, out)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    count = sum(int(np.prod(shape)) for _, shape, _ in parameters(facts))
    return f"{out}: {facts.family.name}, {count} parameters, context {facts.keys['context']}"


def _write(folder: Path, facts: ModelFacts, weights: Weights) -> None:
    listed = list(parameters(facts))
    specs = [(name, "F32", shape) for name, shape, _ in listed]
    arrays = (np.concatenate([weights.take(*part) for part in parts]) for _, _, parts in listed)
    write_tensors(folder / "model.safetensors", specs, arrays)
    weights.check_all_taken()
    # Nothing was trained here, so there are no moments.
    write_tensors(folder / "optimizer.safetensors", [], [])
    checkpoint.write_text(folder / "config.toml", checkpoint.settings_text(facts.keys))
    checkpoint.write_text(folder / "state.json", checkpoint.state_text())


def _check_head(weights: Weights, facts: ModelFacts) -> None:
    """A head beside a tied embedding must be the embedding."""
    if not facts.keys["tie_embeddings"] or not weights.has("lm_head.weight"):
        return
    shape = (int(facts.keys["vocab_size"]), int(facts.keys["d_model"]))
    if not np.array_equal(weights.take("lm_head.weight", shape), weights.take("model.embed_tokens.weight", shape)):
        raise InputError(f"{weights.folder}: 'lm_head.weight' differs from 'model.embed_tokens.weight', but 'tie_word_embeddings' is true in config.json")


def _check_tokenizer(folder: Path, vocabulary: int) -> None:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    from ufp4.models.tokenizer import largest_id

    if (largest := largest_id(path)) >= vocabulary:
        raise InputError(f"{path} has the token id {largest}, expected ids below 'vocab_size', {vocabulary}, of config.json")
