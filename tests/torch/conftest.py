import pathlib

import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    parser.addoption("--ops-library", default=str(ROOT / "build/release/lib/libufp4_torch_ops.so"),
                     help="the shared object that registers torch.ops.ufp4.*")


@pytest.fixture(scope="session")
def ops(request):
    library = pathlib.Path(request.config.getoption("--ops-library"))
    if not library.exists():
        pytest.skip(f"{library} is not built")
    torch.ops.load_library(str(library))
    return torch.ops.ufp4
