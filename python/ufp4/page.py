"""One self-contained HTML page: the template filled, sections and figures as its parts."""

import html
import os
from pathlib import Path
from string import Template

import plotly
from plotly.offline import get_plotlyjs

from ufp4 import InputError, __version__


def write_page(text: str, out: Path) -> Path:
    """Appears under its name when it is whole."""
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder, expected the name of a file")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist")
    temporary = out.with_name(out.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, out)
    return out


def page(title: str, facts: list[tuple[str, str]], notes: list[str], sections: str, details: str = "") -> str:
    template = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(title),
        lead="".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in facts),
        notes="".join(f'<p class="note">{html.escape(note)}</p>' for note in notes),
        sections=sections,
        details=details,
        foot=html.escape(f"Made by ufp4 {__version__} with plotly {plotly.__version__}. The page needs no network."),
        plotly=get_plotlyjs(),
    )


def section(title: str, text: str, body: str) -> str:
    return f"<section><h2>{title}</h2><p>{text}</p>{body}</section>"


def figure_html(name: str, figure, toggle: bool = False) -> str:
    data = figure.to_json().replace("<", "\\u003c")
    buttons = (
        '<div class="toggle" role="group" aria-label="curves">'
        '<button data-show="smooth" aria-pressed="true">smoothed</button>'
        '<button data-show="raw" aria-pressed="false">raw</button>'
        '<button data-show="both" aria-pressed="false">both</button></div>'
    )
    height = figure.layout.height
    return (
        f'<figure>{buttons if toggle else ""}<div class="plot" id="{name}" style="height:{height}px"></div>'
        f'<script type="application/json" data-for="{name}">{data}</script></figure>'
    )
