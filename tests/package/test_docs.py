"""What docs/python.md shows, pasted."""

import re
import subprocess
import sys
from pathlib import Path

import torch
import ufp4

from package_models import WIDTH, net, normal

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()


def test_the_reference_is_that_of_the_docstrings():
    root = Path(__file__).parents[2]
    made = subprocess.run([sys.executable, root / "scripts" / "api-reference"], capture_output=True, text=True, check=True).stdout
    assert made == (root / "docs" / "python_api.md").read_text(), "scripts/api-reference makes it anew"


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


def test_the_quick_start_runs(capsys):
    quick = next(block for block in blocks(PAGE) if "import torch, ufp4" in block)
    # aot_eager in place of inductor, which compiles for half a minute.
    exec(quick.replace("torch.compile(model)", 'torch.compile(model, backend="aot_eager")'), {})
    printed = capsys.readouterr().out.splitlines()
    assert "2 linear layers under recipe 'ufp4'" in printed[0] and float(printed[-1]) < 1.1


def test_the_other_lines_run():
    step = 3
    names = {"torch": torch, "ufp4": ufp4, "step": step, "n": 32, "x": normal(4, WIDTH), "batch": normal(2, 16, WIDTH)}
    run = 0
    for block in blocks(PAGE):
        if "import torch, ufp4" in block or "init_device_mesh" in block or "plots" in block:
            continue
        model = net(2)
        names |= {"model": model, "optimizer": torch.optim.AdamW(model.parameters()), "micro_batches": [normal(2, 16, WIDTH)] * 2,
                  "loss_of": lambda model, x: model(x).float().square().mean()}
        code = block.replace('"recipes/', f'"{Path(__file__).parents[2]}/recipes/')
        exec(code, names)
        run += 1
    assert run >= 5
