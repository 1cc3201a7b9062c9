"""The short form of scripts/soak: every kind of trouble once."""

import subprocess
from pathlib import Path

import pytest
from soak import Soak


def test_every_kind_of_trouble(ufp4, tmp_path):
    if "train" not in subprocess.run([ufp4, "--help"], capture_output=True, text=True).stdout:
        pytest.skip("this build has no torch")
    program = Path(ufp4).read_bytes()
    if b"libasan.so" in program or b"libtsan.so" in program:
        pytest.skip("a sanitizer must be loaded before the library that injects faults")
    soak = Soak(ufp4, tmp_path.resolve(), seed=1, steps=12)
    for trial in soak.trials():
        trial()
    assert soak.figures["resumed segments compared to the bit"] > 0
    assert soak.figures["bit flips refused"] == soak.figures["truncations refused"] == 1
