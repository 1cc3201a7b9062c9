"""Layers whose products follow a recipe."""

from typing import TYPE_CHECKING, Any, Literal

import torch

from ufp4 import InputError
from ufp4.clock import Clock, check_rows_while_compiling
from ufp4.library import load, message_of, operators
from ufp4.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WeightLife = Literal["forward", "pass", "step"]
_LIVES = ("forward", "pass", "step")
_FLOATS = (torch.float32, torch.bfloat16)


class Linear(torch.nn.Linear):
    """torch.nn.Linear with all three products (y, dx, dw) under a recipe.

    x [.., in_features] gives y [.., out_features] in the type of x. Products are of BF16 or FP8 values with FP32 sums;
    an FP32 x is rounded to BF16 first, as autocast does; an FP32 weight is rounded within the kernel that quantizes it.
    Under autocast y has autocast's type. Parameters, their names and the state dict are those of torch.nn.Linear.

    recipe   what `ufp4.Recipe` takes
    clock    the model's `ufp4.Clock`; None: one of its own
    number   of the layer in the model, from 0: it names the layer's random streams
    seed     of the run: of random bits and of the signs of the transform
    stash    what is kept of x for the backward pass: True: its 4-bit operand of that pass; False: x itself
    weights  when the weight is quantized, with the same bits in each case:
             "forward"  by each forward pass, for itself and its backward pass
             "pass"     by each pass for itself, so that nothing is kept between them (for FSDP that reshards)
             "step"     when the clock moves to the next step, for all of its micro-batches (not for sharded weights)
    name     of the layer, for messages

    Raises InputError for what cannot be: a recipe that there is not, an FP16 x.
    """

    recipe: Recipe
    clock: Clock
    number: int
    seed: int

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None, *,
                 recipe: "str | Path | Mapping[str, Any] | Recipe" = "ufp4", clock: Clock | None = None, number: int = 0,
                 seed: int = 0, stash: bool = True, weights: WeightLife = "forward", name: str = "linear"):
        super().__init__(in_features, out_features, bias, device, dtype)
        self.set_up(Recipe(recipe), clock or Clock(), number=number, seed=seed, stash=stash, weights=weights, name=name)

    def set_up(self, recipe: Recipe, clock: Clock, *, number: int, seed: int, stash: bool, weights: WeightLife, name: str) -> None:
        """Gives a torch.nn.Linear whose class was changed to this one what it needs."""
        if weights not in _LIVES:
            raise InputError(f"weights is {weights!r}, expected one of {', '.join(map(repr, _LIVES))}")
        self.recipe, self.clock, self.number, self.seed = recipe, clock, number, seed
        self.stash, self.weights, self.layer_name = stash, weights, name
        self._text = recipe.text
        self._cuda = load().cuda
        self._units = {0: recipe.unit("dgrad"), 1: recipe.unit("fprop")}  # of a weight cut along its axis 0 or 1
        self.layer_tensor = torch.tensor([number], dtype=torch.int32, device="cpu")
        self.run_of_tokens = recipe.unit("wgrad")
        self._prepared: list[torch.Tensor] | None = None
        self._prepared_of: tuple[int, int] | None = None
        clock.watch(self)
        self._follow_weight()
        self.refresh_weight()

    def tear_down(self) -> None:
        """Makes it a torch.nn.Linear again."""
        for attribute in ("recipe", "clock", "number", "seed", "stash", "weights", "layer_name", "_text", "_cuda", "_units",
                          "run_of_tokens", "layer_tensor", "_prepared", "_prepared_of"):
            delattr(self, attribute)
        self.__class__ = torch.nn.Linear  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [.., in_features] to y [.., out_features]."""
        if x.device.type != "meta" and torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        self._check(x)
        if _is_dtensor(self.weight):
            y = self._sharded(x)
        elif _is_dtensor(x):
            raise InputError(f"layer {self.layer_name}: x is a DTensor and the weight is not")
        else:
            y = self._local(x, self.weight, 0, 0)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def refresh_weight(self) -> None:
        """Quantizes the weight for the step, where `weights` is "step". The clock calls it when the step changes; a program
        does after it changed the weight by other ways than autograd counts (`weight.data`)."""
        if not self._keeps_weight():
            self._prepared = self._prepared_of = None
            return
        weight = self.weight
        place = [self.seed, self.number, self.clock.step, 0, 0, 0]
        with torch.no_grad():
            ops = operators()
            made = ops.quantize_weight(weight.detach(), self._text, ops.linear_products(weight, self._text), place, None, None, None)
            # In place: compiled code and CUDA graphs know these tensors.
            if self._prepared is None or [t.shape for t in self._prepared] != [t.shape for t in made]:
                self._prepared = list(made)
            else:
                for old, new in zip(self._prepared, made, strict=True):
                    old.copy_(new)
        self._prepared_of = _state_of(weight)

    def weight_is_fresh(self) -> bool:
        """Whether refresh_weight would make again what there is."""
        return self._prepared_of == _state_of(self.weight) if self._keeps_weight() else self._prepared is None

    def _keeps_weight(self) -> bool:
        weight = self.weight
        return self.weights == "step" and not weight.is_meta and not _is_dtensor(weight) and weight.dtype in _FLOATS

    def _check(self, x: torch.Tensor) -> None:
        weight = self.weight
        if x.dtype not in _FLOATS:
            raise InputError(f"layer {self.layer_name}: x is {x.dtype}, expected torch.bfloat16 or torch.float32{_fp16(x.dtype)}")
        if weight.dtype not in _FLOATS:
            raise InputError(f"layer {self.layer_name}: the weight is {weight.dtype}, expected torch.bfloat16 or torch.float32{_fp16(weight.dtype)}")
        if x.ndim < 1 or x.shape[-1] != self.in_features:
            raise InputError(f"layer {self.layer_name}: x has shape {list(x.shape)}, expected [.., {self.in_features}]")
        if x.device != weight.device:
            raise InputError(f"layer {self.layer_name}: x is on {x.device}, the weight on {weight.device}")
        if x.is_cuda and not self._cuda:
            raise InputError(f"layer {self.layer_name}: x is on {x.device}, and ufp4 was built without CUDA: install it where nvcc is")

    def _local(self, x: torch.Tensor, weight: torch.Tensor, in_offset: int, out_offset: int) -> torch.Tensor:
        compiling = torch.compiler.is_compiling()
        prepared = self._prepared
        if not compiling:
            if self.layer_tensor.device != x.device and not x.is_meta:
                self.layer_tensor = self.layer_tensor.to(x.device)
                if self.clock.step_tensor.is_cpu:  # of a model on several devices it stays on the first
                    self.clock.to(x.device)
            if prepared is not None and not self.weight_is_fresh():
                prepared = None  # the weight changed since: never the old one
        clock, layer = self.clock, self.layer_tensor
        step, token = clock.step_tensor, clock.token_tensor
        if layer.device != x.device or step.device != x.device:
            step, layer, token = step.to(x.device), layer.to(x.device), token.to(x.device)
        rows = x.numel() // x.shape[-1] if x.shape[-1] else 0
        if clock.ranks > 1 and torch.is_grad_enabled():
            self._check_rows(rows)
        try:
            return torch.ops.ufp4.linear(
                x, weight, self._text, seed=self.seed, token_offset=clock.rank * rows, step_tensor=step, layer_tensor=layer,
                token_tensor=token, in_offset=in_offset, out_offset=out_offset, stash=self.stash,
                keep_weight=self.weights != "pass", prepared=prepared)
        except RuntimeError as error:
            if compiling or isinstance(error, torch.OutOfMemoryError):
                raise
            raise InputError(f"layer {self.layer_name}: {message_of(error)}") from error

    def _check_rows(self, rows: int) -> None:
        """Warns where processes that share a batch cut the blocks of wgrad; in compiled code for shapes that it is for."""
        if not torch.compiler.is_compiling():
            self.clock.check_rows(rows, self)
        else:
            from torch.fx.experimental.symbolic_shapes import statically_known_true

            if statically_known_true(rows % self.run_of_tokens != 0):
                check_rows_while_compiling(rows)

    def _sharded(self, x: torch.Tensor) -> torch.Tensor:
        """Tensor parallel: the operator takes the local parts and where they stand in the whole layer; what it gives is
        sharded or a partial sum."""
        from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

        weight = self.weight
        assert isinstance(weight, DTensor)
        if weight.device_mesh.ndim != 1:
            raise InputError(f"layer {self.layer_name}: the weight is on a mesh of {weight.device_mesh.ndim} dimensions, expected 1 "
                             "(fully_shard gathers the others before the layer runs)")
        if not isinstance(x, DTensor):
            raise InputError(f"layer {self.layer_name}: the weight is a DTensor and x is not: parallelize the layer with "
                             "ColwiseParallel or RowwiseParallel")
        mesh, of_weight, of_x = weight.device_mesh, weight.placements[0], x.placements[0]
        last = x.ndim - 1
        in_offset = out_offset = 0
        placement: Placement
        if of_weight.is_shard(0) and of_x.is_replicate():  # column-wise: dx is a partial sum
            out_offset = self._offset(weight, 0)
            local, placement = x.to_local(grad_placements=[Partial()]), Shard(last)
        elif of_weight.is_shard(1) and of_x.is_shard(last):  # row-wise: y is a partial sum
            in_offset = self._offset(weight, 1)
            local, placement = x.to_local(), Partial()
        elif of_weight.is_replicate() and of_x.is_replicate():
            local, placement = x.to_local(), Replicate()
        else:
            raise InputError(f"layer {self.layer_name}: the weight is {of_weight} and x is {of_x}; expected x whole with a weight cut by rows "
                             "(ColwiseParallel), or x and the weight cut along the features (RowwiseParallel)")
        y = self._local(local, weight.to_local(), in_offset, out_offset)
        shape = torch.Size([*x.shape[:-1], self.out_features])
        stride = _dense_strides(shape)
        return DTensor.from_local(y, mesh, [placement], run_check=False, shape=shape, stride=stride)

    def _offset(self, weight: Any, axis: int) -> int:
        """Where this process's part of the weight begins along the axis."""
        parts, whole = weight.device_mesh.size(), weight.shape[axis]
        unit = self._units[axis]
        if whole % (parts * unit):
            raise InputError(f"layer {self.layer_name}: {whole} {'outputs' if axis == 0 else 'inputs'} in {parts} parts are no whole blocks of "
                             f"{unit} in each, which recipe {self.recipe.name!r} needs: take a multiple of {parts * unit}, or fewer parts")
        return int(weight.device_mesh.get_local_rank()) * (whole // parts)

    def _follow(self, device: torch.device) -> None:
        self.layer_tensor = self.layer_tensor.to(device)
        self.clock.to(device)

    def _follow_weight(self) -> None:
        if not self.weight.is_meta:
            self._follow(self.weight.device)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        self._follow_weight()
        self._prepared = self._prepared_of = None
        self.refresh_weight()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if self._prepared is not None:
            self.refresh_weight()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        load()
        self.clock.watch(self)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, recipe={self.recipe.name}, number={self.number}"


def _state_of(weight: torch.Tensor) -> tuple[int, int]:
    """Changes with the weight, as far as autograd counts."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


def _is_dtensor(tensor: torch.Tensor) -> bool:
    if type(tensor) in (torch.Tensor, torch.nn.Parameter):
        return False
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def _dense_strides(shape: torch.Size) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _fp16(dtype: torch.dtype) -> str:
    return " (FP16 lacks the range of gradients: use BF16)" if dtype == torch.float16 else ""
