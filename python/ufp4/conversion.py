"""convert and revert: a model's linear layers under a recipe, in place."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ufp4 import InputError
from ufp4.clock import Clock
from ufp4.names import grouped, listed, matches
from ufp4.nn import Linear, WeightLife
from ufp4.recipe import Recipe

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

# Layers that stay in BF16 unless the caller names others: heads and routers, as the recipe's paper has it.
KEEP_BF16 = ("lm_head", "output", "head", "embed_out", "score", "classifier", "router", "router.*", "mlp.gate", "block_sparse_moe.gate")


@dataclass
class Conversion:
    """What convert() did."""

    recipe: Recipe
    clock: Clock
    converted: dict[str, str] = field(default_factory=dict)  # name of a layer: its shape
    kept: dict[str, str] = field(default_factory=dict)  # name of a layer: why it stays in BF16
    notes: list[str] = field(default_factory=list)  # what the recipe says and the layers do otherwise

    def __str__(self) -> str:
        lines = [f"ufp4: {_count(len(self.converted), 'linear layer')} under recipe {self.recipe.name!r} ({self.recipe.summary or self.recipe.text})"]
        lines += [f"  {names}: {shape}" for names, shape in grouped(self.converted)]
        if self.kept:
            lines.append(f"  {len(self.kept)} in BF16:")
            lines += [f"    {names}: {why}" for names, why in grouped(self.kept)]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def convert(model: torch.nn.Module, recipe: "str | Path | Mapping[str, Any] | Recipe" = "ufp4", *,
            keep_bf16: Sequence[str] | None = None, seed: int = 0, clock: Clock | None = None, weights: WeightLife = "forward",
            stash: bool = True, data_parallel: "tuple[int, int] | DeviceMesh | None" = None, quiet: bool = False) -> Conversion:
    """Puts the torch.nn.Linear layers of a model under a recipe, in place, and prints and returns what it did.

    Parameters, their names, the state dict and hooks stay what they were. The model may be on the meta device. To be
    called before the layers are sharded, compiled or wrapped.

    recipe         what `ufp4.Recipe` takes: a name, a file, keys
    keep_bf16      patterns (`*`, `?`) of layers that stay as they are, matched against the name or its end
                   ("lm_head" is also "model.lm_head"); None: heads and routers by their usual names. Each must match.
                   Those of the recipe are kept too, and a layer whose weight is an embedding's.
    seed           of random bits and of the transform's signs
    clock          the step that random bits follow from; None: a new one, which moves with the optimizer
    weights        when weights are quantized: "forward", "pass" or "step" (`ufp4.nn.Linear`)
    stash          what is kept of x for the backward pass: its 4-bit operand, or x
    data_parallel  (rank, ranks) or the mesh of the processes that share a batch by rows (`Clock.data_parallel`)
    quiet          does not print

    Raises InputError for a model without linear layers, one that is converted or quantized already, FP16 weights, an
    unknown recipe, and a pattern that matches nothing.
    """
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"convert takes a torch.nn.Module, not {type(model).__name__}")
    chosen = Recipe(recipe)
    layers = _linears(model)
    names = [name for name, _ in layers]
    patterns = _patterns(keep_bf16, chosen, names)
    embeddings = {id(m.weight): name for name, m in model.named_modules() if isinstance(m, torch.nn.Embedding)}
    clock = clock if clock is not None else Clock()
    if data_parallel is not None:
        clock.data_parallel(*data_parallel) if isinstance(data_parallel, tuple) else clock.data_parallel(data_parallel)
    result = Conversion(chosen, clock)
    plan: list[tuple[int, str, torch.nn.Linear]] = []
    for number, (name, layer) in enumerate(layers):
        pattern = next((p for p in patterns if matches(p, name)), None)
        if pattern is not None:
            result.kept[name] = f"keep_bf16 has {pattern!r}"
        elif type(layer) is not torch.nn.Linear:
            result.kept[name] = f"{type(layer).__name__} is a kind of its own of torch.nn.Linear"
        elif id(layer.weight) in embeddings:
            result.kept[name] = f"shares the weight of the embedding {embeddings[id(layer.weight)]!r}"
        else:
            _check_weight(name, layer)
            plan.append((number, name, layer))
    if not plan:
        raise InputError(f"convert found nothing to convert: {_why_nothing(result)}")
    for number, name, layer in plan:
        layer.__class__ = Linear
        assert isinstance(layer, Linear)
        layer.set_up(chosen, clock, number=number, seed=seed, stash=stash, weights=weights, name=name)
        result.converted[name] = f"[{layer.out_features}, {layer.in_features}]"
    skipped = [name for name, module in model.named_modules() if isinstance(module, torch.nn.TransformerEncoderLayer)]
    if skipped:
        result.notes.append(f"{listed(skipped)}: without gradients torch.nn.TransformerEncoderLayer multiplies by its weights itself in eval "
                            "mode, unquantized; torch.backends.mha.set_fastpath_enabled(False) makes it call its layers")
    if chosen.delayed:
        result.notes.append(f"amax = delayed of {', '.join(chosen.delayed)} is taken as exact: each of them is read once more, for its "
                            "largest magnitude, where the trainer takes that of the step before (docs/python.md)")
    if not quiet:
        print(result)
    return result


def revert(model: torch.nn.Module) -> int:
    """Makes every converted layer of the model a torch.nn.Linear again, in place; gives how many there were.

    Raises InputError where there is none.
    """
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    if not layers:
        raise InputError("revert found no converted layer")
    for layer in layers:
        layer.tear_down()
    return len(layers)


def _linears(model: torch.nn.Module) -> list[tuple[str, torch.nn.Linear]]:
    layers = []
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            raise InputError(f"layer {name or type(model).__name__!r} is converted already, to recipe {module.recipe.name!r}: "
                             "ufp4.revert(model) first")
        if type(module).__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")):
            raise InputError(f"layer {name} is quantized already ({type(module).__module__}.{type(module).__name__})")
        if isinstance(module, torch.nn.Linear):
            layers.append((name, module))
    return layers


def _check_weight(name: str, layer: torch.nn.Linear) -> None:
    dtype = layer.weight.dtype
    if dtype == torch.float16:
        raise InputError(f"layer {name}: the weight is torch.float16, expected torch.bfloat16 or torch.float32 (FP16 lacks the range of "
                         "gradients: model.bfloat16() or model.float())")
    if dtype not in (torch.float32, torch.bfloat16):
        what = "quantized already" if not dtype.is_floating_point else "of another type"
        raise InputError(f"layer {name}: the weight is {dtype}, {what}; expected torch.bfloat16 or torch.float32")


def _patterns(given: Sequence[str] | None, recipe: Recipe, names: list[str]) -> list[str]:
    if given is None:
        return [*KEEP_BF16, *recipe.keep_bf16]
    if isinstance(given, str):
        raise InputError(f"keep_bf16 is the text {given!r}, expected a list of patterns: [{given!r}]")
    for pattern in given:
        if not isinstance(pattern, str):
            raise InputError(f"keep_bf16 has {pattern!r}, expected patterns as text")
        if not any(matches(pattern, name) for name in names):
            ends = {name.rsplit(".", 1)[-1]: None for name in names}
            near = difflib.get_close_matches(pattern, [*names, *ends], 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise InputError(f"keep_bf16 pattern {pattern!r} matches no linear layer{hint}; there are {listed(names)}")
    return [*given, *recipe.keep_bf16]


def _why_nothing(result: Conversion) -> str:
    if not result.kept:
        return "the model has no torch.nn.Linear"
    return "; ".join(f"{names}: {why}" for names, why in grouped(result.kept))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
