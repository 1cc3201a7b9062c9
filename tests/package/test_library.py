"""Loading the operators, and what is said where that cannot be."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "python"


def run(code, *, path=(PACKAGE,), arguments=()):
    lines = f"import sys; sys.path[:0] = {[str(p) for p in path]!r}\n" + code
    return subprocess.run([sys.executable, "-c", lines, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_reports_need_no_torch():
    done = run("sys.modules['torch'] = None\nimport ufp4\nfrom ufp4.__main__ import main\nimport ufp4.runs\n"
               "assert 'convert' in dir(ufp4)\ntry:\n    ufp4.Recipe('ufp4')\nexcept ImportError as error:\n    print(error)")
    assert done.returncode == 0 and "ufp4 needs torch, which is not installed here" in done.stdout and "pip install torch==2.11" in done.stdout, done.stderr


def test_import_takes_no_time():
    done = run("import torch, time\nstart = time.process_time()\nimport ufp4\nufp4.convert, ufp4.Recipe, ufp4.nn.Linear, ufp4.quantize, ufp4.analyze\n"
               "print(any(name.startswith(('plotly', 'torch.distributed.tensor', 'pandas')) for name in sys.modules if name not in before))"
               .replace("import ufp4\n", "before = set(sys.modules)\nimport ufp4\n", 1))
    assert done.stdout.strip() == "False", done.stdout + done.stderr


@pytest.mark.parametrize("build, message", [
    ({"torch": "2.10.0", "cuda": False}, "built for torch 2.10.0, and torch .* is installed: install ufp4 again"),
    ({"cuda": False}, "does not say what the operators were built for"),
    (None, "was not installed with its operators"),
    ({"torch": "own", "cuda": False}, "is missing: .*install the package again"),
])
def test_a_library_that_does_not_fit(tmp_path, build, message):
    import re

    import torch

    if build is not None:
        if build.get("torch") == "own":
            build = {**build, "torch": torch.__version__}
        (tmp_path / "ufp4_build.json").write_text(json.dumps(build))
    done = run("from ufp4 import library\nlibrary.use(sys.argv[1])\ntry:\n    library.load()\nexcept ImportError as error:\n    print(error)",
               arguments=[tmp_path / "libufp4_torch_ops.so"])
    assert re.search(message, done.stdout), done.stdout + done.stderr


def test_another_torch_than_the_tested_one_is_told(tmp_path):
    (tmp_path / "ufp4_build.json").write_text(json.dumps({"torch": "2.99.0", "cuda": False}))
    done = run("import torch, warnings\ntorch.__version__ = '2.99.1+cu140'\nfrom ufp4 import library\nlibrary.use(sys.argv[1])\n"
               "with warnings.catch_warnings(record=True) as caught:\n    warnings.simplefilter('always')\n"
               "    try:\n        library.load()\n    except ImportError as error:\n        print(error)\n"
               "print([str(warning.message) for warning in caught])", arguments=[tmp_path / "libufp4_torch_ops.so"])
    assert "the library of the operators is missing" in done.stdout  # the version is no error
    assert "ufp4 was tested with torch 2.11, and this is torch 2.99.1+cu140" in done.stdout, done.stdout + done.stderr


def test_an_import_without_torchs_compiler(library):
    done = run("import ufp4.library\nufp4.library.use(sys.argv[1])\nimport torch, ufp4\nufp4.convert(torch.nn.Sequential(torch.nn.Linear(32, 32)), quiet=True)\n"
               "print('torch._dynamo' in sys.modules)", arguments=[library])
    assert done.stdout.strip() == "False", done.stdout + done.stderr


def test_a_file_that_is_no_library(tmp_path):
    import torch

    (tmp_path / "ufp4_build.json").write_text(json.dumps({"torch": torch.__version__, "cuda": False}))
    (tmp_path / "libufp4_torch_ops.so").write_bytes(b"nothing")
    done = run("from ufp4 import library\nlibrary.use(sys.argv[1])\ntry:\n    library.load()\nexcept ImportError as error:\n    print(error)",
               arguments=[tmp_path / "libufp4_torch_ops.so"])
    assert "cannot be loaded into torch" in done.stdout, done.stdout + done.stderr


def test_two_libraries_are_refused(library):
    import ufp4
    from ufp4 import library as module

    with pytest.raises(ufp4.InputError, match="loaded from .* already"):
        module.use("elsewhere/libufp4_torch_ops.so")
    module.use(library)
