"""A trainer of torchtitan that sets the clock: from its step, its micro-batch and its place among the processes."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torchtitan.train

from ufp4.clock import Clock
from ufp4.nn import Linear


class ClockedTraining:
    """To inherit before a trainer of torchtitan: `class MyTrainer(ClockedTraining, torchtitan.train.Trainer)`.

    Before each micro-batch it sets the clock of the converted layers to the optimizer's step, from 0, and the first
    token of the micro-batch. A checkpoint restores the step, so that a resumed run draws the bits that the run would
    have drawn. Random bits follow from rows of the whole batch: they are the same however many data-parallel processes,
    micro-batches and stages share it. Without converted layers it changes nothing.
    """

    def __init__(self, job_config: Any):
        super().__init__(job_config)
        self.ufp4_clock = _clock_of(self.model_parts)
        self._micro_batch = 0
        self._chunks: _Chunks | None = None
        if self.ufp4_clock is None:
            return
        dims = self.parallel_dims
        if dims.dp_cp_enabled:
            mesh = dims.get_mesh("loss")
            self.ufp4_clock.data_parallel(mesh.get_local_rank(), mesh.size())
        if dims.pp_enabled:
            self._chunks = _Chunks(self.ufp4_clock, _stages(self.pp_schedule), self.pp_schedule._n_microbatches)

    def train_step(self, data_iterator: Iterator[Any]) -> None:
        self._micro_batch = 0
        super().train_step(data_iterator)

    def forward_backward_step(self, *, labels: torch.Tensor, **others: Any) -> torch.Tensor:
        clock = self.ufp4_clock
        if clock is not None:
            degree = self.parallel_dims.dp_replicate * self.parallel_dims.dp_shard
            first = self._micro_batch * labels.numel() * degree
            clock.set(self.step - 1, first)
            if self._chunks is not None:
                self._chunks.place(first, labels.numel() // self.parallel_dims.cp)
        self._micro_batch += 1
        return super().forward_backward_step(labels=labels, **others)


class Trainer(ClockedTraining, torchtitan.train.Trainer):
    """torchtitan's trainer, with the clock of converted layers set."""


class _Chunks:
    """The micro-batches into which a pipeline's schedule cuts a batch. Their passes interleave. So each has a token tensor
    of its own, which the clock shows while a pass of that micro-batch runs, repetitions included."""

    def __init__(self, clock: Clock, stages: list[Any], count: int):
        self._clock = clock
        device = clock.token_tensor.device
        self._tokens = [torch.zeros(1, dtype=torch.int32, device=device) for _ in range(count)]
        for stage in stages:
            for name in ("forward_one_chunk", "backward_one_chunk", "backward_weight_one_chunk"):
                setattr(stage, name, self._during(getattr(stage, name)))

    def place(self, first_token: int, tokens: int) -> None:
        """Says which tokens the batch of this process has: `tokens` of each process, from `first_token` on."""
        each = tokens // len(self._tokens)
        for number, tensor in enumerate(self._tokens):
            self._clock.check_cut(number * each, f"a micro-batch of the pipeline begins at token {number * each} of those of a process")
            # A layer adds its rank times the rows that it sees, which are those of one chunk.
            tensor.fill_(first_token + self._clock.rank * (tokens - each) + number * each)

    def _during(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def at_chunk(chunk: int, *arguments: Any, **named: Any) -> Any:
            outside = self._clock.token_tensor
            self._clock.token_tensor = self._tokens[chunk]
            try:
                return run(chunk, *arguments, **named)
            finally:
                self._clock.token_tensor = outside

        return at_chunk


def _clock_of(model_parts: list[torch.nn.Module]) -> Clock | None:
    layers = (module for part in model_parts for module in part.modules() if isinstance(module, Linear))
    return next((layer.clock for layer in layers), None)


def _stages(schedule: Any) -> list[Any]:
    """One stage, or several where stages are interleaved."""
    return list(schedule._stages) if hasattr(schedule, "_stages") else [schedule._stage]
