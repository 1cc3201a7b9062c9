"""Where a model is in its training: the step and the first token, which random bits follow from."""

import warnings
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from ufp4 import InputError
from ufp4.library import operators

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from ufp4.nn import Linear

_LARGEST = 2**31 - 1
_clocks: "weakref.WeakSet[Clock]" = weakref.WeakSet()
_hook: Any = None


class Clock:
    """The step of a model, one for all of its layers: int32 tensors on the device, so that compiled code serves every
    step.

    It is neither parameter nor buffer: a checkpoint of the model holds nothing of it, and what a resumed run needs is
    the number of the step, `clock.set(step)`. A copy of the model (copy.deepcopy, a stage of a pipeline) shares it.

    It moves by itself after each step of the first optimizer that trains one of its layers, unless
    `follow_optimizer=False`. By hand it moves with `advance` and `set`, which refuse while a forward pass waits for its
    backward pass: that would draw the bits of another step. (In compiled code the pass itself refuses, when it runs.)

    step, first_token   where to start: whole numbers, from 0
    device              where its tensors are; layers take it to their own
    """

    def __init__(self, step: int = 0, first_token: int = 0, *, device: "torch.device | str" = "cpu",
                 follow_optimizer: bool = True):
        self._check("step", step)
        self._check("first_token", first_token)
        self.step_tensor = torch.tensor([step], dtype=torch.int32, device=device)
        self.token_tensor = torch.tensor([first_token], dtype=torch.int32, device=device)
        self.rank, self.ranks = 0, 1
        self.follow_optimizer = follow_optimizer
        self.moves = 0
        self._warned = False
        self._step, self._first_token = step, first_token
        self._layers: weakref.WeakSet[Linear] = weakref.WeakSet()
        self._optimizer: weakref.ref[torch.optim.Optimizer] | None = None
        _clocks.add(self)
        _hook_optimizers()

    @property
    def step(self) -> int:
        """The number of the optimizer's step that runs."""
        return self._step

    @property
    def first_token(self) -> int:
        """The number, among the tokens of the step, of the first token of the micro-batch."""
        return self._first_token

    def set(self, step: int, first_token: int = 0) -> None:
        """Moves to a step and to the first token of a micro-batch in it.

        Raises InputError for numbers that are not from 0 to 2^31 - 1, and while a backward pass is pending.
        """
        self._check("step", step)
        self._check("first_token", first_token)
        if (step, first_token) == (self._step, self._first_token):
            self._refresh(all_of_them=False)
            return
        pending = self.pending()
        if pending:
            raise InputError(f"the clock stands at step {self._step}, token {self._first_token}, and {pending} forward passes wait for "
                             f"their backward pass, which would draw the bits of step {step}: move it after backward(), "
                             "and run what has no backward pass under torch.no_grad()")
        self._move(step, first_token)

    def advance(self, tokens: int | None = None) -> None:
        """Moves to the next step or, with `tokens`, past so many tokens to the next micro-batch of the same step.

        `tokens` counts those of all data-parallel processes. Raises InputError as `set` does.
        """
        if tokens is None:
            self.set(self._step + 1)
        else:
            self._check("tokens", tokens)
            self.set(self._step, self._first_token + tokens)

    def pending(self) -> int:
        """How many forward passes of its layers wait for their backward pass. Compiled code does not count."""
        return int(operators().pending_backward(self.step_tensor))

    def data_parallel(self, rank: "int | DeviceMesh", ranks: int | None = None) -> None:
        """Says which part of each batch this process has: the `rank`-th of `ranks` equal ones, by rows. The random bits
        are then those that one process with the whole batch would draw. A mesh says both for its data-parallel ranks.
        """
        if not isinstance(rank, int):
            mesh = rank
            coordinate, sizes = mesh.get_coordinate(), mesh.shape
            if coordinate is None:
                raise InputError(f"this process is not in the mesh {mesh}")
            rank, ranks = 0, 1
            for at, size in zip(coordinate, sizes, strict=True):
                rank, ranks = rank * size + at, ranks * size
        if ranks is None or not 0 <= rank < ranks:
            raise InputError(f"data-parallel rank {rank} of {ranks}, expected 0 to {0 if ranks is None else ranks - 1}")
        self.rank, self.ranks = rank, ranks

    def to(self, device: "torch.device | str") -> "Clock":
        """Takes its tensors to a device."""
        if torch.device(device) != self.step_tensor.device:
            self.step_tensor, self.token_tensor = self.step_tensor.to(device), self.token_tensor.to(device)
        return self

    def watch(self, layer: "Linear") -> None:
        """Counts a layer among those whose optimizer moves the clock."""
        self._layers.add(layer)

    def layers(self) -> "Iterable[Linear]":
        """The layers that were set up with it."""
        return list(self._layers)

    def check_cut(self, tokens: int, what: str, layer: "Linear | None" = None) -> None:
        """Warns, once, where micro-batches or parts of a batch that meet at so many tokens cut the blocks of a layer's
        wgrad elsewhere than the whole batch does. None: any layer of the clock."""
        if self._warned or tokens == 0:
            return
        layers = self._of_its_own() if layer is None else [layer]
        cut = [one for one in layers if one.weight.requires_grad and tokens % one.run_of_tokens]
        if not cut:
            return
        self._warned = True
        first = min(cut, key=lambda one: one.number)
        warnings.warn(f"layer {first.layer_name}: {what}, no multiple of {first.run_of_tokens}: the blocks of wgrad are cut elsewhere "
                      f"than in a batch at once, and its results differ; pad to a multiple of {first.run_of_tokens}", stacklevel=3)

    def check_rows(self, rows: int, layer: "Linear | None" = None) -> None:
        """The same for a process that has so many rows of a batch."""
        if self.ranks > 1:
            self.check_cut(rows, f"each of {self.ranks} processes has {rows} tokens of the batch", layer)

    def _move(self, step: int, first_token: int) -> None:
        # In place: what autograd keeps of the old numbers is then refused by its own check of versions.
        with torch.no_grad():
            self.step_tensor.fill_(step)
            self.token_tensor.fill_(first_token)
        next_step = step != self._step
        self._step, self._first_token = step, first_token
        self.moves += 1
        self._refresh(all_of_them=next_step)
        self.check_cut(first_token, f"a micro-batch begins at token {first_token} of the batch")

    def _refresh(self, all_of_them: bool) -> None:
        """Quantizes weights that are kept for a step: all, or those that changed within it."""
        for layer in self._of_its_own():
            if all_of_them or not layer.weight_is_fresh():
                layer.refresh_weight()

    def _of_its_own(self) -> "list[Linear]":
        """Layers may have been given another clock since."""
        return [layer for layer in self._layers if layer.clock is self]

    def _after(self, optimizer: torch.optim.Optimizer) -> None:
        """After a step of an optimizer of the program."""
        if not self.follow_optimizer:
            return
        parameters = {id(p) for group in optimizer.param_groups for p in group["params"]}
        trained = [layer for layer in self._of_its_own() if id(layer.weight) in parameters]
        if not trained:
            return
        if self._optimizer is None or self._optimizer() is None:
            self._optimizer = weakref.ref(optimizer)
        if self._optimizer() is optimizer:
            self._move(self._step + 1, 0)
            return
        # Of several optimizers the first moves the clock; weights of the others change afterwards.
        for layer in trained:
            layer.refresh_weight()

    @staticmethod
    def _check(name: str, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
            raise InputError(f"{name} of the clock is {value!r}, expected a whole number from 0 to {_LARGEST}")

    def __deepcopy__(self, memo: dict[int, Any]) -> "Clock":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._step, self._first_token, self.rank, self.ranks, self.follow_optimizer)

    def __repr__(self) -> str:
        return f"Clock(step={self._step}, first_token={self._first_token}, rank={self.rank} of {self.ranks})"


def _restore(step: int, first_token: int, rank: int, ranks: int, follow_optimizer: bool) -> Clock:
    clock = Clock(step, first_token, follow_optimizer=follow_optimizer)
    clock.data_parallel(rank, ranks)
    return clock


def check_rows_while_compiling(rows: int) -> None:
    """`Clock.check_rows` for code that torch compiles: it runs then, and not with the code. It is not told the layer,
    since torch would compile anew for each."""
    for clock in list(_clocks):
        clock.check_rows(rows)


# What torch.compiler.assume_constant_result does, without its import of the compiler, which takes a second.
check_rows_while_compiling._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _hook_optimizers() -> None:
    global _hook
    if _hook is None:
        _hook = register_optimizer_step_post_hook(_optimizer_stepped)


def _optimizer_stepped(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
    for clock in list(_clocks):
        clock._after(optimizer)
