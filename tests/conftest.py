"""Options and fixtures of the Python tests."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser):
    parser.addoption("--ufp4", metavar="PATH", default=str(ROOT / "build" / "release" / "bin" / "ufp4"),
                     help="the program under test (build/release/bin/ufp4)")

    parser.addoption("--ops-library", metavar="PATH", default=str(ROOT / "build" / "release" / "lib" / "libufp4_torch_ops.so"),
                     help="the shared object that registers torch.ops.ufp4.*")


@pytest.fixture(scope="session")
def ops_library(request):
    """The path of the library of operators under test."""
    path = Path(request.config.getoption("--ops-library")).resolve()
    if not path.is_file():
        pytest.fail(f"{path}: no such library; build ufp4_torch_ops, or name another one with --ops-library")
    return path


@pytest.fixture(scope="session")
def ufp4(request):
    """The path of the program under test."""
    path = Path(request.config.getoption("--ufp4")).resolve()
    if not path.is_file():
        pytest.fail(f"{path}: no such program; build it, or name another one with --ufp4")
    return str(path)
