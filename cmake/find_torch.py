"""Prints the folder of the torch package of this interpreter's environment, or fails.

Within pip's isolated build the environment's packages are not on the path, but sysconfig still names their folder, and
path files in it name others.
"""

import importlib.util
import sys
import sysconfig
from pathlib import Path


def folders() -> list[Path]:
    spec = importlib.util.find_spec("torch")
    found = [Path(place).parent for place in (spec.submodule_search_locations or [])] if spec else []
    for name in ("purelib", "platlib"):
        folder = Path(sysconfig.get_path(name))
        found.append(folder)
        for file in sorted(folder.glob("*.pth")):
            lines = file.read_text(errors="replace").splitlines()
            found += [folder / line for line in lines if line and not line.startswith(("#", "import "))]
    # An environment that sees the packages of the system.
    found.append(Path(sysconfig.get_path("purelib", vars={"base": sys.base_prefix})))
    return found


for folder in folders():
    if (folder / "torch" / "include" / "torch" / "library.h").is_file():
        print((folder / "torch").resolve())
        sys.exit(0)
sys.exit(1)
