"""The section [ufp4] of a torchtitan configuration.

`python -m ufp4.torchtitan.train` has it by itself. Another entry point takes it by
`--job.custom_config_module ufp4.torchtitan.config`.
"""

from dataclasses import dataclass, field

USUAL = "usual"


@dataclass
class Ufp4:
    recipe: str = "ufp4"
    """What `ufp4.Recipe` takes: a name, a file that ends in .toml, a name and changes ("ufp4; dgrad.hadamard = 0")"""

    keep_bf16: list[str] = field(default_factory=lambda: [USUAL])
    """Patterns (*, ?) of linears that stay in BF16. "usual" stands for heads and routers by their usual names; every
    other pattern must match a linear"""

    seed: int = 0
    """Of random bits and of the signs of the transform"""

    weights: str = "auto"
    """When weights are quantized: "forward", "pass" or "step" (ufp4.nn.Linear). "auto": "pass" where FSDP frees whole
    weights after the forward pass, "forward" elsewhere"""

    stash: bool = True
    """Keeps the 4-bit operand of x for the backward pass instead of x"""


@dataclass
class JobConfig:
    ufp4: Ufp4 = field(default_factory=Ufp4)
    """The recipe of linear layers"""
