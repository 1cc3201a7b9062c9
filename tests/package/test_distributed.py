"""Several processes: FSDP2, tensor parallel, distributed checkpoints (distributed_checks.py)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

from package_models import net

HERE = Path(__file__).parent
SOURCE = (HERE / "distributed_checks.py").read_text()
CHECKS = [(name, int(size)) for sizes, name in re.findall(r"@check\(([\d, ]+)\)\ndef (\w+)", SOURCE) for size in sizes.split(",")]


@pytest.fixture(scope="module")
def runs(library, tmp_path_factory):
    """What each number of processes printed; the checkpoint that two wrote is there for the others."""
    folder = tmp_path_factory.mktemp("distributed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    printed = {}
    for processes in (2, 4):
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--rdzv-backend", "c10d",
             "--rdzv-endpoint", "localhost:0", str(HERE / "distributed_checks.py"), str(library), str(folder)],
            env=environment, capture_output=True, text=True, timeout=400, check=False)
        printed[processes] = done.stdout + done.stderr
    return folder, printed


@pytest.mark.parametrize("name, processes", CHECKS)
def test_on_processes(runs, name, processes):
    output = runs[1][processes]
    assert f"ok {name}\n" in output, output[-6000:]


def test_one_process_reads_the_checkpoint_of_two(runs):
    model = net(2, seed=1)
    state = {"model": model.state_dict()}
    dcp.load(state, checkpoint_id=runs[0] / "checkpoint", no_dist=True)
    for name, value in net(2).state_dict().items():
        assert torch.equal(state["model"][name], value)
