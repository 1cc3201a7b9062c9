"""torchtitan's debug models, smaller, on synthetic tokens and without a tokenizer: "tiny_llama3" and so on."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch.distributed.checkpoint.stateful import Stateful
from torch.utils.data import IterableDataset
from torchtitan.components.dataloader import ParallelAwareDataloader
from torchtitan.protocols.train_spec import get_train_spec, register_train_spec

VOCABULARY = 256


class Rows(IterableDataset, Stateful):
    """Each token follows from the one before by a fixed permutation, so that a model learns it. The rows of a batch are
    the same however many processes share it: process r has the r-th of equal parts."""

    def __init__(self, seq_len: int, batch: int, rank: int, ranks: int):
        self.seq_len, self.batch, self.rank, self.ranks, self.at = seq_len, batch, rank, ranks, 0
        self.after = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(1)).tolist()

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        while True:
            micro_batch, row = divmod(self.at, self.batch)
            self.at += 1
            token = (7919 * (self.batch * (micro_batch * self.ranks + self.rank) + row)) % VOCABULARY
            tokens = [token := self.after[token] for _ in range(self.seq_len + 1)]
            yield {"input": torch.tensor(tokens[:-1])}, torch.tensor(tokens[1:])

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


def build_dataloader(dp_world_size: int, dp_rank: int, tokenizer: Any, job_config: Any) -> ParallelAwareDataloader:
    training = job_config.training
    rows = Rows(training.seq_len, training.local_batch_size, dp_rank, dp_world_size)
    return ParallelAwareDataloader(rows, dp_rank=dp_rank, dp_world_size=dp_world_size, batch_size=training.local_batch_size)


def _register(name: str, flavor: str, **smaller: Any) -> None:
    spec = get_train_spec(name)
    arguments = dataclasses.replace(spec.model_args[flavor], vocab_size=VOCABULARY, **smaller)
    register_train_spec(f"tiny_{name}", dataclasses.replace(spec, model_args={"debugmodel": arguments}, build_dataloader_fn=build_dataloader,
                                                            build_tokenizer_fn=None, build_validator_fn=None))


_register("llama3", "debugmodel", n_layers=2)
_register("deepseek_v3", "debugmodel", n_layers=2)
_register("qwen3", "debugmodel", n_layers=2, hidden_dim=512)


def _register_moe() -> None:
    spec = get_train_spec("qwen3")
    given = spec.model_args["debugmodel_moe"]
    arguments = dataclasses.replace(given, vocab_size=VOCABULARY, n_layers=2, moe_inter_dim=256,
                                    moe_args=dataclasses.replace(given.moe_args, num_experts=8, top_k=2))
    register_train_spec("tiny_qwen3_moe", dataclasses.replace(spec, model_args={"debugmodel": arguments}, build_dataloader_fn=build_dataloader,
                                                              build_tokenizer_fn=None, build_validator_fn=None))


_register_moe()
