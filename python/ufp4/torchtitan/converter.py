"""quantize.linear.ufp4: the model converter of torchtitan that puts linear layers under a recipe."""

import sys
from typing import Any

import torch
from torchtitan.components.quantization import QuantizationConverter
from torchtitan.config import JobConfig
from torchtitan.distributed import ParallelDims
from torchtitan.models.moe.moe import GroupedExperts
from torchtitan.protocols.model_converter import register_model_converter
from torchtitan.protocols.train_spec import get_train_spec
from torchtitan.tools.logging import logger

from ufp4 import InputError
from ufp4.clock import Clock
from ufp4.conversion import KEEP_BF16, Conversion, convert
from ufp4.library import operators
from ufp4.names import matches
from ufp4.torchtitan.config import USUAL, Ufp4

CONVERTER = "quantize.linear.ufp4"
_EXPERTS = "grouped experts: their products take all experts at once, and ufp4 has no operator for that yet"


class LinearConverter(QuantizationConverter):
    """Converts torch.nn.Linear layers as the section [ufp4] says, and logs what it converted, what it kept, and why.

    The clock does not follow the optimizer: the trainer sets it (`ufp4.torchtitan.ClockedTraining`). A trainer that
    does not is refused after its second step.

    Raises InputError where the configuration has no section [ufp4], and for whatever `ufp4.convert` refuses.
    """

    def __init__(self, job_config: JobConfig, parallel_dims: ParallelDims):
        super().__init__(job_config, parallel_dims)
        section = getattr(job_config, "ufp4", None)
        if section is None:
            raise InputError(f"the converter {CONVERTER} found no section [ufp4] in the configuration: start "
                             "ufp4.torchtitan.train, or add --job.custom_config_module ufp4.torchtitan.config")
        self.section: Ufp4 = section
        self.weights = _weights(section, job_config, parallel_dims)
        self.clock = Clock(follow_optimizer=False)
        self.conversion: Conversion | None = None
        self._moves: int | None = None
        if job_config.activation_checkpoint.mode == "selective":
            _save_products(job_config.model.name)

    def convert(self, model: torch.nn.Module) -> None:
        self.conversion = convert(model, self.section.recipe, keep_bf16=_patterns(self.section.keep_bf16, model),
                                  seed=self.section.seed, clock=self.clock, weights=self.weights,
                                  stash=self.section.stash, quiet=True)
        for name, module in model.named_modules():
            if isinstance(module, GroupedExperts):
                self.conversion.kept[name] = _EXPERTS
        logger.info(str(self.conversion))

    def post_optimizer_hook(self, model: torch.nn.Module | list[torch.nn.Module]) -> None:
        if self._moves == self.clock.moves:
            raise InputError(f"the clock of {CONVERTER} stood still for an optimizer's step, so its random bits would "
                             "repeat: start ufp4.torchtitan.train, or let the trainer inherit "
                             "ufp4.torchtitan.ClockedTraining first")
        self._moves = self.clock.moves
        # For a validation before the clock moves again: compiled code does not see that weights changed.
        for layer in self.clock.layers():
            layer.refresh_weight()


def _weights(section: Ufp4, job_config: JobConfig, parallel_dims: ParallelDims) -> Any:
    if section.weights != "auto":
        return section.weights
    policy = job_config.parallelism.fsdp_reshard_after_forward
    frees = policy == "always" or (policy == "default" and not parallel_dims.pp_enabled)
    return "pass" if parallel_dims.dp_shard_enabled and frees else "forward"


def _patterns(given: list[str], model: torch.nn.Module) -> list[str]:
    """The patterns, with the usual ones that match instead of the word for them."""
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    result: list[str] = []
    for pattern in given:
        usual = [p for p in KEEP_BF16 if any(matches(p, name) for name in names)]
        result += usual if pattern == USUAL else [pattern]
    return result


def _save_products(model_name: str) -> None:
    """Selective activation checkpointing keeps results of listed operators; each model's module has its own list. With
    the product goes the 4-bit operand of x. Operands of weights are made again."""
    module = sys.modules[get_train_spec(model_name).parallelize_fn.__module__]
    saved = getattr(module, "_op_sac_save_list", None)
    if saved is None:
        logger.warning(f"{module.__name__} has no list of operators for selective activation checkpointing: the "
                       "products of converted layers are computed again in the backward pass")
        return
    saved.add(operators().linear_forward.default)


register_model_converter(LinearConverter, CONVERTER)
