"""4-bit pretraining with a uniform grid, for PyTorch models, and reports of ufp4 runs.

    import ufp4
    report = ufp4.convert(model, "ufp4", keep_bf16=["lm_head"])   # the linears now multiply in 4 bits

What needs torch is loaded with its first use: `python -m ufp4 report` runs without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"


class InputError(ValueError):
    """Wrong input: the message names the thing, what was found and what was expected. Exit code 2 of the program."""


if TYPE_CHECKING:
    from ufp4 import analysis as analysis
    from ufp4 import nn as nn
    from ufp4.analysis import analyze as analyze
    from ufp4.analysis import sqnr as sqnr
    from ufp4.clock import Clock as Clock
    from ufp4.conversion import Conversion as Conversion
    from ufp4.conversion import convert as convert
    from ufp4.conversion import revert as revert
    from ufp4.quantization import Format as Format
    from ufp4.quantization import QuantizedTensor as QuantizedTensor
    from ufp4.quantization import formats as formats
    from ufp4.quantization import quantize as quantize
    from ufp4.recipe import Recipe as Recipe
    from ufp4.recipe import recipes as recipes

# Where the public names are.
_HOMES = {
    "Clock": "clock",
    "Conversion": "conversion",
    "Format": "quantization",
    "QuantizedTensor": "quantization",
    "Recipe": "recipe",
    "analyze": "analysis",
    "convert": "conversion",
    "formats": "quantization",
    "quantize": "quantization",
    "recipes": "recipe",
    "revert": "conversion",
    "sqnr": "analysis",
}

_MODULES = ("analysis", "nn")

__all__ = ["InputError", *_MODULES, *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES and name not in _HOMES:
        raise AttributeError(f"module 'ufp4' has no attribute {name!r}")
    importlib.import_module("ufp4.library").require_torch()
    if name in _MODULES:
        return importlib.import_module(f"ufp4.{name}")
    value = getattr(importlib.import_module(f"ufp4.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
