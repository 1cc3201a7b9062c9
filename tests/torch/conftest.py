import pytest
import torch


@pytest.fixture(scope="session")
def ops(ops_library):
    torch.ops.load_library(str(ops_library))
    return torch.ops.ufp4
