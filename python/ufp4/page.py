"""One self-contained HTML page. Every string gets into it through a template that escapes it."""

import fcntl
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import plotly
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ufp4 import InputError, __version__

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                         trim_blocks=True, lstrip_blocks=True)
_PARTS = _TEMPLATES.get_template("parts.html").module


def write_page(text: str, out: Path) -> Path:
    """Appears under its name when it is whole. A link of that name is replaced and not followed."""
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder, expected the name of a file")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist")
    # A name that nobody can have put a link at. The next start of the run removes one that is left and not locked.
    descriptor, temporary = tempfile.mkstemp(dir=out.parent, prefix=".ufp4-", suffix=".tmp")
    try:
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:  # JSON may hold half of a surrogate pair
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(text)
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)  # mkstemp lets nobody else read it
            file.flush()
            os.replace(temporary, out)
    except BaseException:
        os.unlink(temporary)
        raise
    return out


def page(title: str, facts: list[tuple[str, str]], notes: list[str], sections: Markup, details: Markup = Markup(),
         refresh: int = 0) -> str:
    """With `refresh`, the browser reads it anew after so many seconds."""
    return _TEMPLATES.get_template("page.html").render(
        title=title, facts=facts, notes=notes, sections=sections, details=details, refresh=refresh, plotly=Markup(get_plotlyjs()),
        foot=f"Made by ufp4 {__version__} with plotly {plotly.__version__}. The page needs no network.",
    )


def joined(parts) -> Markup:
    return Markup().join(parts)


def section(title: str, text: str, body: Markup = Markup()) -> Markup:
    return _PARTS.section(title, text, body)


def pair(bodies: list[Markup]) -> Markup:
    return _PARTS.pair(bodies)


def scroll(body: Markup) -> Markup:
    return _PARTS.scroll(body)


@dataclass
class Cell:
    """Of a table: a text, after it a note in small, before it a patch of colour."""

    text: str
    note: str = ""
    colour: str = ""
    span: int = 1
    left: bool = False


def table(head: list[list], rows: list[list], titles: bool = True) -> Markup:
    """Cells, or texts. `titles`: the first cell of a row names it."""
    def cells(lines):
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in line] for line in lines]

    return _PARTS.table(cells(head), cells(rows), titles)


def verdicts(items: list[dict]) -> Markup:
    return _PARTS.verdicts(items)


def details(summary: str, rows: list[tuple[str, object]]) -> Markup:
    return _PARTS.details(summary, rows)


# plotly takes some tags in texts; these are all that our own texts have.
_FOREIGN_TAG = re.compile(r"<(?!br>|extra></extra>|/extra>)")


def _plain(value):
    """The same with tags that are not ours as text, in names of formats, recipes and tensors."""
    if isinstance(value, str):
        return _FOREIGN_TAG.sub("&lt;", value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def figure_html(name: str, figure, toggle: bool = False) -> Markup:
    # Inside a script element nothing is escaped, and only "<" could end it.
    data = json.dumps(_plain(json.loads(figure.to_json())), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return _PARTS.figure(name, figure.layout.height, Markup(data), toggle)
