"""`ufp4 report` on files from elsewhere: strings that would be code, values that are not what they must be."""

import copy
import json
import os
import random
import re
from html.parser import HTMLParser

import documents
import pytest
from run_folders import write_comparison, write_run
from test_report import run_ufp4

from ufp4 import InputError, page
from ufp4.__main__ import main
from ufp4.report import write_report

PAYLOAD = "\"'><img src=x onerror=alert(1)></script><script>alert(2)</script><a href=\"javascript:alert(3)\">{{7*7}}{%x%}$title&lt;"
OWN_TAGS = ("<br>", "<extra></extra>")


@pytest.fixture(autouse=True)
def small_plotly(monkeypatch):
    """The pages of these tests are looked at and not run."""
    monkeypatch.setattr(page, "get_plotlyjs", lambda: "")


def write_documents(folder):
    """Every kind of input in a folder of its own: the path to report, and the files that it consists of."""
    inputs = {}
    for name, document in (("tensors", {"kind": "tensors", "source": "a", "formats": [documents.expected("e2m1")], "skipped": ["ids: I64 [3]"],
                                        "tensors": [{"name": "model.layers.0.w", "file": "a", "dtype": "F32", **documents.matrix(), "nonfinite": 3}]}),
                           ("operands", documents.operands()), ("chain", documents.chain()), ("grid", documents.grid()),
                           ("sweep", documents.sweep_after())):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(document))
        inputs[name] = (path, [path])
    run = write_run(folder / "run", "ufp4", 3, steps=3, entropy_rate=1.5)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "skipped": "non-finite loss"}\n{"step": 3, "val_loss": 2.5}\n')
    lines = [{"step": 3, "formats": [documents.expected(name) for name in ("e2m1", "e1m2")]}]
    lines += [{"step": step, **record} for step in (3, 6) for record in documents.operands()["operands"][:2]]
    (run / "analysis.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    inputs["run"] = (run, [run / "run.json", run / "metrics.jsonl", run / "analysis.jsonl"])
    comparison = write_comparison(folder / "compare", seeds=2, steps=3)
    inputs["compare"] = (comparison, [comparison / "compare.json", comparison / "runs" / "ufp4-seed1" / "run.json"])
    return inputs


KINDS = ("tensors", "operands", "chain", "grid", "sweep", "run", "compare")


def read_values(path):
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]


def write_values(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


# ---- strings that would be code ----------------------------------------------------------------------------------

# Keys whose values decide what a document is, and keys that the program itself names.
FIXED_VALUES = ("kind", "rounding", "ranked_by")
FREE_KEYS = ("config", "model", "expected", "distributions")


def with_payload(value, keep):
    """Before every string, and every key that is a name: the same one before the same string, so that names still agree."""
    if isinstance(value, str):
        return PAYLOAD + value
    if isinstance(value, list):
        return [with_payload(item, keep) for item in value]
    if isinstance(value, dict):
        result = {}
        for key, item in value.items():
            inner = item if key in keep else with_payload(item, keep)
            if key in FREE_KEYS and isinstance(inner, dict):
                inner = {PAYLOAD + name: own for name, own in inner.items()}
            result[key] = inner
        return result
    return value


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.scripts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def strings_of(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings_of(item)


def check_page(text, least):
    elements = Elements(text)
    assert not {"img", "a", "iframe", "object"} & set(elements.tags)
    assert not [name for name in elements.attributes if name.startswith("on")]
    figures = [json.loads(script) for script in elements.scripts[1:-1]]
    assert len(figures) == text.count('class="plot"') and figures
    assert elements.scripts[0] == "" and "Plotly.newPlot" in elements.scripts[-1]
    for string in strings_of(figures):
        assert "<" not in re.sub("|".join(map(re.escape, OWN_TAGS)), "", string), string
    assert text.count("onerror=alert(1)") >= least
    assert "{{7*7}}" in text and "49" + "{%" not in text  # not taken for a template either


@pytest.mark.parametrize("keep", [(), ("gemm", "operand", "linear")])
@pytest.mark.parametrize("kind", KINDS)
def test_no_string_becomes_code(tmp_path, kind, keep):
    path, files = write_documents(tmp_path)[kind]
    for file in files:
        write_values(file, [with_payload(value, (*FIXED_VALUES, *keep)) for value in read_values(file)])
    text = write_report(path, tmp_path / "page.html").read_text()
    check_page(text, least=2)


def test_no_name_of_a_folder_becomes_code(tmp_path):
    name = PAYLOAD.replace("/", "\u2215")
    compare = write_comparison(tmp_path / name, seeds=1, steps=3, summary=False)
    (compare / "runs" / "ufp4-seed0").rename(compare / "runs" / f"{name}-seed0")
    (compare / "runs" / f"late{name}").mkdir()
    check_page(write_report(compare, tmp_path / "page.html").read_text(), least=4)


def test_half_of_a_surrogate_pair_is_no_end(tmp_path):
    run = write_run(tmp_path / "run", "ufp4", 0, steps=3)
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "recipe": "\ud800", "device": "\udfff"}))
    assert "Plotly" in write_report(run, tmp_path / "page.html").read_text()


# ---- values that are not what they must be -----------------------------------------------------------------------

def deep(levels=100_000):
    return "[" * levels + "]" * levels


HOSTILE = ["null", "true", "-1", "0", "1" + "0" * 400, "1" + "0" * 5000, "1e308", "-1e308", "NaN", '"x"', '""', "[]", "{}", '[{"a": [1]}]', deep(),
           '"' + "x" * 100_000 + '"']
PLACE = "@place@"


def places_of(value, path=()):
    """Of every value within a value."""
    if path:
        yield path
    if isinstance(value, (list, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_of(item, (*path, key))


def with_place(values, path):
    changed = copy.deepcopy(values)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = PLACE
    return changed


@pytest.mark.parametrize("kind", KINDS)
def test_any_value_gives_a_page_or_a_message(tmp_path, kind):
    path, files = write_documents(tmp_path)[kind]
    chosen = random.Random(kind)
    for file in files:
        good = read_values(file)
        changes = [(place, value) for place in places_of(good) for value in HOSTILE]
        for place, value in chosen.sample(changes, min(len(changes), 12)):
            text = "".join(json.dumps(line) + "\n" for line in with_place(good, place))
            file.write_text(text.replace(f'"{PLACE}"', value))
            try:
                write_report(path, tmp_path / "page.html")
            except InputError as error:
                assert len(str(error).replace(str(tmp_path), "")) < 500 and "\n" not in str(error), (place, value[:50])
        write_values(file, good)


@pytest.mark.parametrize("line, words", [
    ('{"step": 2, "loss": 1' + "0" * 400 + "}", None),  # beyond a double: as a loss that is not finite
    ('{"step": 2, "loss": ' + deep() + "}", "line 2: objects and lists are nested too deep"),
    ('{"step": 2, "loss": "1.5"}', "line 2: '1.5' is not a number"),
    ('{"step": 2, "loss": "' + "x" * 10_000 + '"}', "is not a number"),
    ('{"step": 1' + "0" * 5000 + ', "loss": 1}', "line 2: expected a JSON object with a whole number 'step'"),
    ('{"step": true, "loss": 1}', "line 2: expected a JSON object with a whole number 'step'"),
])
def test_lines_of_metrics(tmp_path, line, words):
    run = write_run(tmp_path / "run", "ufp4", 0, steps=3)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([lines[0], line, lines[2]]) + "\n")
    if words is None:
        write_report(run, tmp_path / "page.html")
        return
    with pytest.raises(InputError) as caught:
        write_report(run, tmp_path / "page.html")
    assert words in str(caught.value) and len(str(caught.value)) < 300 + len(str(run))


def test_messages_of_documents_name_the_place(tmp_path):
    path = tmp_path / "a.json"
    document = documents.operands()
    document["operands"][1]["schemes"][2]["sqnr_db"] = "20"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"a\.json: operands\[1\]\.schemes\[2\]\.sqnr_db is '20', expected a finite number"):
        write_report(path, tmp_path / "page.html")
    path.write_text('{"kind": ' + deep() + "}")
    assert run_ufp4("report", path).stderr == f"ufp4: {path}: objects and lists are nested too deep\n"


# ---- files that are none, and links ------------------------------------------------------------------------------

def test_what_is_no_regular_file_is_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run", "ufp4", 0, steps=3)
    for name in ("run.json", "metrics.jsonl", "analysis.jsonl"):
        kept = (run / name).read_bytes() if (run / name).exists() else None
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)
        assert main(["report", str(run)]) == 2  # and does not wait for somebody to write
        assert f"{run / name}: is not a regular file" in capsys.readouterr().err
        (run / name).unlink()
        if kept is not None:
            (run / name).write_bytes(kept)
    assert main(["report", "/dev/zero", "--out", str(tmp_path / "page.html")]) == 2
    assert "/dev/zero: is not a regular file" in capsys.readouterr().err


def test_links_in_a_run_folder_are_not_written_through(tmp_path):
    run = write_run(tmp_path / "run", "ufp4", 0, steps=3)
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    for name in ("report.html", "report.html.partial"):
        (run / name).symlink_to(mine)
    write_report(run, run / "report.html")
    assert mine.read_text() == "mine"
    assert not (run / "report.html").is_symlink() and "Plotly" in (run / "report.html").read_text()
    assert (run / "report.html").stat().st_mode & 0o777 == 0o666 & ~current_mask()
    assert not list(run.glob(".ufp4-*"))


def current_mask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_tensorboard_writes_and_removes_nothing_through_a_link(tmp_path):
    pytest.importorskip("tensorboard")
    run = write_run(tmp_path / "run", "ufp4", 0, steps=3)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "events.out.tfevents.1").write_text("mine")
    (run / "tensorboard").symlink_to(mine)
    done = run_ufp4("tensorboard", run)
    assert done.returncode == 2 and "is a link" in done.stderr
    assert [path.name for path in mine.iterdir()] == ["events.out.tfevents.1"]
