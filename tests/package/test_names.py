"""Names of layers."""

import pytest
from ufp4 import names


@pytest.mark.parametrize("pattern, name, found", [
    ("lm_head", "lm_head", True),
    ("lm_head", "model.lm_head", True),
    ("head", "lm_head", False),
    ("layers.0.*", "model.layers.0.mlp.up", True),
    ("layers.0.*", "model.layers.10.mlp.up", False),
    ("layers.?.up", "layers.3.up", True),
    ("layers.?.up", "layers.13.up", False),
    ("a.b", "axb", False),
    ("[ab]", "a", False),
    ("*", "", True),
])
def test_a_pattern_is_the_name_or_its_end(pattern, name, found):
    assert names.matches(pattern, name) == found


def test_names_that_differ_in_a_number_stand_together():
    assert names.listed(["layers.0.up", "layers.1.up", "0.a", "head2", "mlp.0", "mlp.2"]) == "layers.*.up, *.a, head2, mlp.*"
    assert names.listed([]) == "none"
    assert names.grouped({"layers.0.up": "x", "layers.1.up": "x", "layers.2.up": "y", "": "z"}) == [
        ("layers.*.up (2)", "x"), ("layers.*.up", "y"), ("the model", "z")]
