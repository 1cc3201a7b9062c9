"""python -m ufp4.torchtitan.train: torchtitan's entry point with the section [ufp4], the converter and the clock.

Takes the arguments and TOML files of torchtitan.train. Without the converter it trains as torchtitan.train does.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torchtitan.config
import torchtitan.train

from ufp4.torchtitan import JobConfig, Trainer


@dataclass
class _JobConfig(JobConfig, torchtitan.config.JobConfig):
    """torchtitan's configuration and the section [ufp4]."""


class _Configuration(torchtitan.config.ConfigManager):
    arguments: Sequence[str] = ()

    def __init__(self) -> None:
        super().__init__(_JobConfig)

    def parse_args(self, args: list[str] | None = None) -> torchtitan.config.JobConfig:
        return super().parse_args(list(self.arguments) if args is None else args)


def main(arguments: Sequence[str] | None = None, trainer: type[torchtitan.train.Trainer] = Trainer) -> None:
    """Trains as the arguments say; None: those of the program. A trainer of one's own inherits `ClockedTraining`."""
    _Configuration.arguments = sys.argv[1:] if arguments is None else arguments
    torchtitan.train.ConfigManager = _Configuration
    torchtitan.train.main(trainer)


if __name__ == "__main__":
    main()
