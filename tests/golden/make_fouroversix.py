"""Makes fouroversix.safetensors: what the PyTorch reference of the published package fouroversix gives for its nvint4 and
for its choice between 6 and 4 by squared error.

    pip download --no-deps --no-build-isolation fouroversix==1.0.5     # SKIP_CUDA_BUILD=1; needs torch and setuptools >= 75
    tar xzf fouroversix-1.0.5.tar.gz
    python tests/golden/make_fouroversix.py fouroversix-1.0.5/src

Only results are kept. The package's models need transformers and are not imported.
"""

import importlib.util
import pathlib
import sys
import types

import torch
from safetensors.numpy import save_file

sys.path.insert(0, sys.argv[1])
package = types.ModuleType("fouroversix")
package.__path__ = list(importlib.util.find_spec("fouroversix").submodule_search_locations)
sys.modules["fouroversix"] = package

from fouroversix.quantize.pytorch.reference import quantize_to_fp4  # noqa: E402
from fouroversix.utils import DataType, ScaleRule  # noqa: E402


def inputs() -> torch.Tensor:
    """Rows of different characters: normal, heavy-tailed, of every size down to where scales underflow, with zeros, ties."""
    g = torch.Generator().manual_seed(20260620)
    x = torch.randn(48, 128, generator=g)
    x[8:16] = x[8:16] ** 3
    x[16:32] *= 2.0 ** -torch.arange(16)[:, None]
    x[32:36, ::3] = 0
    x[36:40, 32:64] = 0
    x[40:44] = torch.randint(-14, 15, (4, 128), generator=g) / 2
    return x.bfloat16().float()


if __name__ == "__main__":
    x = inputs()
    tensors = {"input": x.numpy()}
    for name, dtype, rule in (("nvint4", DataType.nvint4, ScaleRule.static_6),
                              ("four_over_six", DataType.nvfp4, ScaleRule.mse)):
        codes, scales, _ = quantize_to_fp4(x, fp4_format=dtype, scale_rule=rule, use_blackwell_scale_layout=False)
        tensors[f"{name}.codes"] = codes.numpy()
        tensors[f"{name}.scales"] = scales.reshape(x.shape[0], -1).view(torch.uint8).numpy()
    save_file(tensors, pathlib.Path(__file__).parent / "fouroversix.safetensors")
