"""Makes peers.safetensors: one set of inputs through the block formats of packages that other people publish.

    pip download --no-deps transformer-engine==2.20.2 nvidia-modelopt==0.47.0 auto-round==0.16.1 gfloat==0.5.2 \
        compressed-tensors==0.20.0
    for wheel in *.whl; do unzip -qo "$wheel" -d peers; done     # also: array-api-compat, which gfloat imports
    python tests/golden/make_peers.py peers

Only results are kept. Packages are read from that folder without running what they do when imported as a whole, which
wants GPUs and models: only the modules that hold the arithmetic run, on the CPU.

Tensors "<package>.<format>.codes" hold two codes a byte, ".scales" the bytes of the scales, ".values" what the package
gives as dequantized. inputs: rows of many kinds for formats whose blocks stand alone; tensor: milder ones, for formats
with a scale for the whole tensor.
"""

import dataclasses
import importlib
import pathlib
import sys
import types
import typing

import numpy as np
import torch
from safetensors.numpy import save_file

PEERS = pathlib.Path(sys.argv[1]).resolve()


def open_package(name: str, **names) -> None:
    """Makes the package's modules importable without running its __init__.py, which is left with `names`."""
    module = types.ModuleType(name)
    module.__path__ = [str(PEERS.joinpath(*name.split(".")))]
    vars(module).update(names)
    sys.modules[name] = module


def stand_in(name: str, **names) -> None:
    """A module of which only some names are needed, and not what they do."""
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(names)


def inputs() -> torch.Tensor:
    """Normal, heavy-tailed, small and large rows, blocks of zeros, constants, ties of every level."""
    g = torch.Generator().manual_seed(26053)
    x = torch.randn(48, 128, generator=g)
    x[8:16] = x[8:16] ** 3
    x[16:32] *= 2.0 ** (torch.arange(16)[:, None] * 5 - 40)
    x[32:36, ::3] = 0
    x[36:40, 32:64] = 0
    x[40] = 1.0
    ties = torch.tensor([0.125, 0.25, 0.375, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, 7.0, 7.5])
    x[41:48] = ties[torch.randint(12, (7, 128), generator=g)] * (torch.randint(2, (7, 128), generator=g) * 2 - 1)
    return x


def tensor() -> torch.Tensor:
    """BF16 values, whose blocks differ by up to 2^-18: down to where an E4M3 scale is subnormal and then zero."""
    g = torch.Generator().manual_seed(26054)
    x = torch.randn(48, 128, generator=g)
    x[8:16] = x[8:16] ** 3
    x[16:36] *= 2.0 ** -torch.arange(20)[:, None]
    x[36:40, 32:64] = 0
    x[40:44, ::3] = 0
    x[44:48] = torch.randint(-24, 25, (4, 128), generator=g) / 4
    return x.bfloat16().float()


def transformer_engine(x: torch.Tensor) -> dict[str, np.ndarray]:
    @dataclasses.dataclass
    class Storage:
        pass

    class Quantizer:
        def __init__(self, *, rowwise: bool, columnwise: bool):
            self.rowwise_usage, self.columnwise_usage = rowwise, columnwise

    open_package("transformer_engine")
    open_package("transformer_engine.pytorch")
    recipes = "transformer_engine.pytorch.custom_recipes"
    open_package(recipes)
    stand_in("transformer_engine.pytorch.quantized_tensor", QuantizedTensorStorage=Storage, Quantizer=Quantizer)
    stand_in(recipes + ".gemm", GEMMType=types.SimpleNamespace(FPROP=0, WGRAD=1), MMParams=typing.Any)
    sys.modules[recipes].gemm = sys.modules[recipes + ".gemm"]
    reference = importlib.import_module(recipes + ".reference_nvfp4")
    e2m1 = reference.reference_utils.Fp4Formats.E2M1
    result = {}
    for name, options, values in (
            ("nvfp4", {}, x),
            # Rotated along the columns, rounded to BF16 before the amax: blocks of the transposed matrix.
            ("nvfp4_rht", {"with_rht": True}, x.bfloat16()),
            ("four_over_six", {"nvfp4_use_4over6": True, "nvfp4_e4m3_max": 256, "nvfp4_4over6_err_mode": "MSE"}, x)):
        quantized = reference.NVFP4QuantizerRef(dtype=e2m1, **options).quantize(values)
        transposed = options.get("with_rht", False)
        result[f"transformer_engine.{name}.codes"] = (quantized.data_t if transposed else quantized.data).numpy()
        scales = quantized.scale_t if transposed else quantized.scale
        result[f"transformer_engine.{name}.scales"] = scales.contiguous().view(torch.uint8).numpy()
    return result


def modelopt(x: torch.Tensor, y: torch.Tensor) -> dict[str, np.ndarray]:
    class Base:
        def __init__(self, shape, dtype, data):
            self.data = data

    def block_amax(values: torch.Tensor, block_sizes: dict) -> torch.Tensor:
        return values.unflatten(-1, (-1, block_sizes[-1])).abs().amax(-1)

    for name in ("modelopt", "modelopt.torch", "modelopt.torch.quantization", "modelopt.torch.quantization.backends",
                 "modelopt.torch.quantization.qtensor"):
        open_package(name)
    quantization = "modelopt.torch.quantization"
    stand_in(quantization + ".backends.utils", fp4_compatible=lambda: False)
    stand_in(quantization + ".qtensor.base_qtensor", BaseQuantizedTensor=Base)
    stand_in(quantization + ".utils", reduce_amax=lambda v: v.abs().max(), reduce_block_amax=block_amax,
             reduce_block_padding=lambda v, block_sizes: v)
    stand_in(quantization + ".utils.numeric_utils", E2M1_MAX=6.0, E4M3_MAX=448.0, fp8_max_for_normalization=None)
    nvfp4 = importlib.import_module(quantization + ".qtensor.nvfp4_tensor").NVFP4QTensor
    mxfp4 = importlib.import_module(quantization + ".qtensor.mxfp4_tensor").MXFP4QTensor
    codes, scales, _ = nvfp4.quantize(y.clone(), 16)
    mx_codes, mx_scales = mxfp4.quantize(x.clone(), 32)
    return {"modelopt.nvfp4.codes": codes.data.numpy(), "modelopt.nvfp4.scales": scales.view(torch.uint8).numpy(),
            "modelopt.mxfp4.codes": mx_codes.data.numpy(), "modelopt.mxfp4.scales": mx_scales.numpy()}


def auto_round(x: torch.Tensor, y: torch.Tensor) -> dict[str, np.ndarray]:
    open_package("auto_round")
    open_package("auto_round.data_type")
    stand_in("auto_round.logger", logger=None)
    stand_in("auto_round.utils", logger=None)
    stand_in("auto_round.data_type.gguf", _imatrix_handle_zero=None)
    stand_in("auto_round.data_type.register", QUANT_FUNC_WITH_DTYPE={}, register_dtype=lambda *a, **k: lambda f: f)
    stand_in("auto_round.data_type.utils", ceil_ste=torch.ceil, floor_ste=torch.floor, round_ste=torch.round,
             reshape_pad_tensor_by_group_size=lambda v, group: (v.reshape(-1, group), v.shape, 0),
             revert_tensor_by_pad=lambda v, orig_shape, pad_len: v.reshape(orig_shape))
    stand_in("auto_round.data_type.fp8", float8_e4m3fn_ste=lambda v: v.to(torch.float8_e4m3fn).to(v.dtype))
    mx = importlib.import_module("auto_round.data_type.mxfp").quant_mx
    nv = importlib.import_module("auto_round.data_type.nvfp").nv_fp4
    result = {}
    for name, data_type in (("mxfp4", "mx_fp4"), ("mxint4", "mx_int4")):
        values, exponents, _ = mx(x.clone(), 4, 32, data_type=data_type)
        result[f"auto_round.{name}.values"] = values.numpy()
        result[f"auto_round.{name}.scales"] = (exponents.reshape(x.shape[0], -1) + 127).to(torch.uint8).numpy()
    values, scales, _ = nv(y.clone())
    result["auto_round.nvfp4.values"] = values.numpy()
    result["auto_round.nvfp4.scales"] = scales.reshape(y.shape[0], -1).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    return result


def gfloat(x: torch.Tensor) -> dict[str, np.ndarray]:
    sys.path.insert(0, str(PEERS))
    block = importlib.import_module("gfloat.block")
    mxfp4 = importlib.import_module("gfloat.formats").format_info_mxfp4_e2m1
    blocks = x.double().numpy().reshape(-1, 32)
    values = np.stack([block.quantize_block(mxfp4, b, block.compute_scale_amax) for b in blocks])
    return {"gfloat.mxfp4.values": values.reshape(x.shape).astype(np.float32)}


def compressed_tensors(x: torch.Tensor) -> dict[str, np.ndarray]:
    data = lambda **n: types.SimpleNamespace(**n)
    for name in ("compressed_tensors", "compressed_tensors.quantization", "compressed_tensors.quantization.utils"):
        open_package(name)
    stand_in("compressed_tensors.quantization.quant_args", QuantizationArgs=object, QuantizationType=object,
             FP4_E2M1_DATA=data(max=6.0, mantissa=1), FP6_E2M3_DATA=data(max=7.5, mantissa=3),
             FP8_E4M3_DATA=data(max=448.0), BFLOAT16_DATA=None, FLOAT16_DATA=None, FLOAT64_DATA=None,
             FLOAT32_DATA=data(mantissa=23, exponent=8))
    mx = importlib.import_module("compressed_tensors.quantization.utils.mxfp_utils")
    amax = x.reshape(x.shape[0], -1, 32).abs().amax(-1)
    return {"compressed_tensors.mxfp4.scales": mx.generate_mx_scales(amax).clamp(0, 254).to(torch.uint8).numpy()}


if __name__ == "__main__":
    x, y = inputs(), tensor()
    found = {"inputs": x.numpy(), "tensor": y.numpy(), **transformer_engine(y), **modelopt(x, y), **auto_round(x, y),
             **gfloat(x), **compressed_tensors(x)}
    save_file({name: np.ascontiguousarray(value) for name, value in found.items()},
              pathlib.Path(__file__).parent / "peers.safetensors")
