"""The operators torch.ops.ufp4.*: where their library is, what it was built for, and loading it once."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ufp4 import InputError

LIBRARY = "libufp4_torch_ops.so"
BUILD = "ufp4_build.json"  # beside the library, written when it was configured
TESTED_TORCH = "2.11"


@dataclass(frozen=True)
class Build:
    """What a library was built for."""

    torch: str  # version, "2.11.0"
    cuda: bool  # whether it has kernels for CUDA tensors


_path = Path(__file__).parent / "lib" / LIBRARY
_build: Build | None = None


def use(path: str | Path) -> None:
    """Takes the library at `path` instead of the package's own. To be called before anything is quantized.

    Raises InputError if the operators were loaded from another file already.
    """
    global _path
    path = Path(path).resolve()
    if _build is not None and path != _path:
        raise InputError(f"the operators were loaded from {_path} already, and cannot be taken from {path} too")
    _path = path


def operators() -> Any:
    """torch.ops.ufp4, with the library loaded."""
    load()
    import torch

    return torch.ops.ufp4


def require_torch() -> None:
    """Raises ImportError with the way to get torch where it is missing."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError(f"ufp4 needs torch, which is not installed here ({error}): pip install torch=={TESTED_TORCH}.0") from error


def load() -> Build:
    """Loads the library once and says what it was built for.

    Raises ImportError where torch is missing or not the one that the library was built for.
    """
    global _build
    if _build is not None:
        return _build
    require_torch()
    import torch

    build = _read_build(_path.parent / BUILD)
    _check_version(build.torch, torch.__version__)
    if not _path.is_file():
        raise ImportError(f"the library of the operators is missing: {_path}; install the package again (pip install .)")
    try:
        torch.ops.load_library(str(_path))
    except OSError as error:
        raise ImportError(f"{_path}, built for torch {build.torch}, cannot be loaded into torch {torch.__version__}: {error}") from error
    _build = build
    return build


def _read_build(path: Path) -> Build:
    try:
        document = json.loads(path.read_text())
        return Build(torch=str(document["torch"]), cuda=bool(document["cuda"]))
    except OSError as error:
        raise ImportError(f"{path} is missing: ufp4 was not installed with its operators (pip install .)") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ImportError(f"{path} does not say what the operators were built for: {error!r}") from error


def _minor(version: str) -> str:
    return ".".join(version.split("+")[0].split(".")[:2])


def _check_version(built: str, found: str) -> None:
    """A library fits the minor version of torch whose headers it saw; others have another binary interface."""
    if _minor(built) != _minor(found):
        raise ImportError(f"ufp4's operators were built for torch {built}, and torch {found} is installed: "
                          f"install ufp4 again (pip install --force-reinstall --no-deps .), or torch {_minor(built)}")
    if _minor(found) != TESTED_TORCH:
        warnings.warn(f"ufp4 was tested with torch {TESTED_TORCH}, and this is torch {found}", stacklevel=3)


def message_of(error: BaseException) -> str:
    """The first line of an operator's error: torch adds its own stack after it."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
