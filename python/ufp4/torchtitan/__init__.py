"""ufp4 in torchtitan: a model converter and a trainer, out of tree (docs/torchtitan.md).

    torchrun --nproc-per-node 8 -m ufp4.torchtitan.train --job.config_file train.toml \\
        --model.converters quantize.linear.ufp4

torchtitan 0.2.2 is the version for torch 2.11; with another one the import says so.
"""

import importlib.metadata

TORCHTITAN = "0.2.2"


def _check_version() -> None:
    wanted = f"ufp4.torchtitan is for torchtitan {TORCHTITAN} (torch 2.11)"
    try:
        found = importlib.metadata.version("torchtitan")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"{wanted}, and none is installed: pip install torchtitan=={TORCHTITAN}") from None
    if found != TORCHTITAN:
        raise ImportError(f"{wanted}, and {found} is installed: pip install torchtitan=={TORCHTITAN}")


_check_version()

from ufp4.torchtitan.config import JobConfig, Ufp4  # noqa: E402
from ufp4.torchtitan.converter import CONVERTER, LinearConverter  # noqa: E402
from ufp4.torchtitan.trainer import ClockedTraining, Trainer  # noqa: E402

__all__ = ["CONVERTER", "TORCHTITAN", "ClockedTraining", "JobConfig", "LinearConverter", "Trainer", "Ufp4"]
