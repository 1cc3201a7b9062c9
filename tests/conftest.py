"""Options and fixtures of the Python tests."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser):
    parser.addoption("--ufp4", metavar="PATH", default=str(ROOT / "build" / "release" / "bin" / "ufp4"),
                     help="the program under test (build/release/bin/ufp4)")


@pytest.fixture(scope="session")
def ufp4(request):
    """The path of the program under test."""
    path = Path(request.config.getoption("--ufp4")).resolve()
    if not path.is_file():
        pytest.fail(f"{path}: no such program; build it, or name another one with --ufp4")
    return str(path)
