"""The Python package, on the operators of a build."""

import pytest

from package_models import net


@pytest.fixture(scope="session", autouse=True)
def library(ops_library):
    """The operators under test, without an installation."""
    from ufp4 import library

    library.use(ops_library)
    library.load()
    return ops_library


@pytest.fixture(autouse=True)
def no_compiled_code():
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


@pytest.fixture
def model():
    """A converted model of 3 blocks, and its clock."""
    import ufp4

    made = net(3)
    return made, ufp4.convert(made, "ufp4", seed=7, quiet=True).clock
