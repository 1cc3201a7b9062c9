"""What torchtitan 0.2.2 lacks on a CPU with gloo, so that its parallelisms run in tests without a GPU. `patch()` goes
before the import of anything else of torchtitan; no file of torchtitan is changed."""

import functools
import types
from typing import Any

import torch
import torch._utils
import torch.distributed
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor


def patch() -> None:
    _device()
    _barrier()
    _gradient_factor()
    _counts_of_tokens()
    _permutation_of_tokens()
    _attention_of_dtensors()


def _device() -> None:
    # torchtitan takes "cuda" where torch finds no accelerator, and asks for that device's memory.
    torch._utils._get_available_device_type = lambda: "cpu"
    wanted: dict[str, Any] = {
        "get_device_name": lambda *_: "cpu",
        "get_device_properties": lambda *_: types.SimpleNamespace(total_memory=1 << 34, name="cpu"),
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "memory_stats": lambda *_: {},
    }
    for name, function in wanted.items():
        if not hasattr(torch.cpu, name):
            setattr(torch.cpu, name, function)


def _barrier() -> None:
    # gloo's barrier takes no device.
    barrier = torch.distributed.barrier
    torch.distributed.barrier = lambda *args, device_ids=None, **named: barrier(*args, **named)


def _gradient_factor() -> None:
    # A divide factor makes FSDP reduce with a product and a sum in one, which gloo lacks.
    set_factor = FSDPModule.set_gradient_divide_factor

    def set_gradient_divide_factor(self: Any, factor: float) -> None:
        set_factor(self, factor)
        self.set_force_sum_reduction_for_comms(True)

    FSDPModule.set_gradient_divide_factor = set_gradient_divide_factor


def _counts_of_tokens() -> None:
    # Routers count tokens with torch.histc of whole numbers, which a CPU has for floats alone.
    histc = torch.histc

    def histc_of_any(input: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        if input.is_floating_point():
            return histc(input, *args, **named)
        return histc(input.float(), *args, **named).to(input.dtype)

    torch.histc = histc_of_any


def _permutation_of_tokens() -> None:
    # A Triton kernel permutes the tokens of experts; the module has the same for a CPU.
    import torchtitan.models.moe.kernels as kernels
    import torchtitan.models.moe.utils as utils

    utils.generate_permute_indices = functools.partial(kernels.generate_permute_indices, use_cpu=True)


def _attention_of_dtensors() -> None:
    # The CPU's attention has no rule for DTensors; each process has whole heads, so that its part is local.
    from torchtitan.models.attention import ScaledDotProductAttentionWrapper as Attention

    forward = Attention.forward

    def local_forward(self: Any, q: Any, k: Any, v: Any, **named: Any) -> Any:
        if not isinstance(q, DTensor):
            return forward(self, q, k, v, **named)
        out = forward(self, q.to_local(), k.to_local(), v.to_local(), **named)
        return DTensor.from_local(out, q.device_mesh, q.placements, run_check=False)

    Attention.forward = local_forward
