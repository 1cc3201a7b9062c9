"""`ufp4 analyze` and `ufp4 formats --levels` as a user calls them: what is refused, and in which words."""
import numpy as np
import pytest
from safetensors_file import write


@pytest.fixture
def tensors(folder):
    values = np.random.default_rng(1).standard_normal((32, 64)).astype(np.float32)
    return write(folder / "a.safetensors", {"a": ("F32", values)})


@pytest.fixture
def needs_models(verbs):
    if "train" not in verbs:
        pytest.skip("this build has no torch")


@pytest.mark.parametrize("option, value", [("--data", "books.txt"), ("--device", "cpu"), ("--sequences", "2")])
def test_options_of_models_need_a_model(program, tensors, needs_models, option, value):
    message = program.fails(2, "analyze", tensors, option, value)
    assert message == f"{option} is for a checkpoint's model: give --operands or --chain with it"


@pytest.mark.parametrize("part", ["--operands", "--chain"])
def test_options_of_tensors_are_not_for_models(program, tensors, needs_models, part):
    assert program.fails(2, "analyze", tensors, part, "--seed", "3").startswith("--seed is for tensors in files")
