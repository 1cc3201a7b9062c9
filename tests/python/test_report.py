"""`python -m ufp4 report` and `tensorboard` on run folders: whole, interrupted, missing, damaged."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from run_folders import write_comparison, write_run

PACKAGE = Path(__file__).parents[2] / "python"


def run_ufp4(*arguments, path=PACKAGE):
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-m", "ufp4", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def page_of(folder):
    done = run_ufp4("report", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "report.html")
    return (folder / "report.html").read_text()


def figures_of(page):
    found = re.findall(r'<script type="application/json" data-for="(\w+)">(.*?)</script>', page)
    return {name: json.loads(text) for name, text in found}


def refused(folder, *parts, code=2):
    done = run_ufp4("report", folder)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert str(part) in done.stderr
    assert not (folder / "report.html").exists()


def test_comparison_has_every_part(tmp_path):
    page = page_of(write_comparison(tmp_path / "books"))
    figures = figures_of(page)
    assert set(figures) == {"loss", "degradation", "excess", "validation", "tokens_per_s", "memory_bytes"}
    assert len(figures["loss"]["data"]) == 2 * 9  # raw and smoothed, three recipes, three seeds
    assert {trace.get("name") for trace in figures["degradation"]["data"] if trace.get("name")} == {"e2m1", "ufp4"}
    assert "2.0699" in page and "+0.970" in page
    assert page.count("its uncertainty (95 %") == 3
    assert "Configuration and versions" in page and "torch_version" in page


def test_page_is_self_contained(tmp_path):
    page = page_of(write_comparison(tmp_path / "books"))
    own = page.replace(re.search(r"<script>.*?</script>", page, re.S).group(0), "")  # without plotly.js itself
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", own)
    assert "@import" not in own and "url(" not in own
    assert "<script src" not in page
    assert "showSendToCloud: false" in own
    assert not (tmp_path / "books" / "report.html.partial").exists()


def test_colours_belong_to_recipes(tmp_path):
    figures = figures_of(page_of(write_comparison(tmp_path / "books")))
    colours = {}
    for name in ("loss", "excess", "validation"):
        for trace in figures[name]["data"]:
            colours.setdefault(trace["name"], set()).add(trace["line"]["color"])
    assert all(len(own) == 1 for own in colours.values())
    assert len(set.union(*colours.values())) == 3
    bars = figures["tokens_per_s"]["data"][0]
    assert [{colour} for colour in bars["marker"]["color"]] == [colours[name] for name in bars["y"]]


def test_dashes_belong_to_seeds_from_solid_on(tmp_path):
    for recipe in ("bf16", "ufp4"):
        for seed in (1, 5):  # `ufp4 compare` counts from 1
            write_run(tmp_path / "books" / "runs" / f"{recipe}-seed{seed}", recipe, seed)
    lines = [trace["line"]["dash"] for trace in figures_of(page_of(tmp_path / "books"))["loss"]["data"]]
    assert lines == 2 * ["solid", "solid", "dot", "dot"]  # raw and smoothed


def test_products_are_named_by_recipe_where_they_differ(tmp_path):
    folder = write_comparison(tmp_path / "cmp")
    assert "fast bf16 here) (bf16" not in page_of(folder)
    for info in folder.glob("runs/ufp4-seed*/run.json"):
        info.write_text(json.dumps({**json.loads(info.read_text()), "gemm": "fp8"}))
    page = page_of(folder)
    assert "emulated: fp32 (no fast bf16 here) (bf16, e2m1); fp8 (ufp4)" in page


def test_word_of_uncertainty(tmp_path):
    folder = write_comparison(tmp_path / "books")
    comparison = json.loads((folder / "compare.json").read_text())
    for row in comparison["runs"]:
        if row["recipe"] == "ufp4":
            row["train_loss"] = 2 + 0.01 * row["seed"] + (0.02, -0.02, 0.001)[row["seed"]]
    (folder / "compare.json").write_text(json.dumps(comparison))
    page = page_of(folder)
    assert re.search(r"<b>ufp4</b> against <b>bf16</b>.*?within its uncertainty", page)
    assert re.search(r"<b>e2m1</b> against <b>bf16</b>.*?beyond its uncertainty", page)


def test_one_seed_claims_no_uncertainty(tmp_path):
    page = page_of(write_comparison(tmp_path / "books", seeds=1, entropy_rate=None))
    assert "uncertainty unknown (one seed)" in page
    assert "excess" not in figures_of(page)


def test_single_run(tmp_path):
    page = page_of(write_run(tmp_path / "mine", "my_recipe", 7, entropy_rate=1.5))
    assert set(figures_of(page)) == {"loss", "excess", "validation", "tokens_per_s", "memory_bytes"}
    assert "&lt;b&gt;books &amp; more&lt;/b&gt;" in page and "<b>books & more</b>" not in page


def test_out_chooses_the_file(tmp_path):
    folder = write_run(tmp_path / "mine", "ufp4", 0)
    assert run_ufp4("report", folder, "--out", tmp_path / "page.html").returncode == 0
    assert (tmp_path / "page.html").exists() and not (folder / "report.html").exists()
    done = run_ufp4("report", folder, "--out", tmp_path / "nowhere" / "page.html")
    assert done.returncode == 2 and "nowhere" in done.stderr


# ---- interrupted runs still give a report ------------------------------------------------------------------------

def test_cut_last_line_is_left_out(tmp_path):
    folder = write_run(tmp_path / "mine", "ufp4", 0, steps=50)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 51, "lo')
    assert "line 51" in page_of(folder)


def test_comparison_without_its_end(tmp_path):
    folder = write_comparison(tmp_path / "books", summary=False)
    lines = (folder / "runs" / "ufp4-seed2" / "metrics.jsonl").read_text().splitlines(True)
    (folder / "runs" / "ufp4-seed2" / "metrics.jsonl").write_text("".join(lines[:30]))
    (folder / "runs" / "ufp4-seed1" / "metrics.jsonl").unlink()
    (folder / "runs" / "late-seed0").mkdir()
    page = page_of(folder)
    assert "the comparison was interrupted" in page
    assert "ufp4-seed1: no metrics.jsonl yet" in page
    assert "late-seed0 has not begun" in page
    assert "degradation" in figures_of(page)


def test_skipped_null_and_repeated_steps(tmp_path):
    folder = write_run(tmp_path / "mine", "ufp4", 0, steps=20)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 19, "skipped": "non-finite loss"}\n{"step": 20, "loss": 1.25, "grad_norm": null}\n')
        file.write('{"step": 20, "val_loss": null}\n{"step": 21, "loss": NaN}\n')
    page = page_of(folder)
    assert "(1 steps skipped)" in page
    raw = figures_of(page)["loss"]["data"][0]
    assert raw["x"][-1] == 20 and raw["y"][-1] == 1.25 and 19 not in raw["x"]


# ---- damaged ones are refused by name ----------------------------------------------------------------------------

@pytest.mark.parametrize(
    "line", ['{"step": 3, "loss": }', "[1, 2]", '{"loss": 1}', '{"step": 3}', '{"step": 3, "loss": "low"}', "\x00\x01"]
)
def test_damaged_line_is_named(tmp_path, line):
    folder = write_run(tmp_path / "mine", "ufp4", 0, steps=20)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines[2] = line
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    refused(folder, folder / "metrics.jsonl", "line 3")


def test_binary_and_broken_files_are_named(tmp_path):
    folder = write_run(tmp_path / "mine", "ufp4", 0, steps=20)
    good = (folder / "run.json").read_text()
    for bad, word in (("", "line 1"), ("{\n\n!", "line 3"), ("[]", "expected a JSON object"), ("{}", "'recipe'")):
        (folder / "run.json").write_text(bad)
        refused(folder, folder / "run.json", word)
    (folder / "run.json").write_bytes(b"\xff\xfe{}")
    refused(folder, folder / "run.json", "UTF-8")
    (folder / "run.json").write_text(good)
    (folder / "metrics.jsonl").write_bytes(b"\xff\xff\n")
    refused(folder, folder / "metrics.jsonl", "line 1")


def test_damaged_comparison_is_named(tmp_path):
    folder = write_comparison(tmp_path / "books", seeds=1, steps=20)
    for bad, word in (("{", "line 1"), ('{"runs": []}', "'summary'"), ('{"runs": [{}], "summary": []}', "runs[0]")):
        (folder / "compare.json").write_text(bad)
        refused(folder, folder / "compare.json", word)


def test_missing_and_empty_folders(tmp_path):
    refused(tmp_path / "nowhere", "nowhere", "no such folder")
    refused(tmp_path, tmp_path, "run.json", "compare.json")
    (tmp_path / "runs").mkdir()
    refused(tmp_path, tmp_path / "runs", "no run in it")
    folder = write_run(tmp_path / "mine", "ufp4", 0, steps=0)
    refused(folder, folder, "no finished step")


def test_wrong_usage(tmp_path):
    assert run_ufp4().returncode == 2
    assert run_ufp4("reprot", tmp_path).returncode == 2
    assert "examples" in run_ufp4("--help").stdout


# ---- TensorBoard -------------------------------------------------------------------------------------------------

def test_tensorboard_gets_every_point_once(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = write_comparison(tmp_path / "books", seeds=1, steps=200)
    for _ in range(2):
        done = run_ufp4("tensorboard", folder)
        assert done.returncode == 0, done.stderr
    events = accumulator.EventAccumulator(str(folder / "tensorboard" / "ufp4-seed0"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 201))
    assert [event.step for event in events.Scalars("validation/loss")] == [100, 200]


def test_tensorboard_missing_is_said(tmp_path):
    folder = write_run(tmp_path / "mine", "ufp4", 0, steps=20)
    hidden = tmp_path / "path"
    (hidden / "tensorboard").mkdir(parents=True)
    (hidden / "tensorboard" / "__init__.py").write_text("raise ImportError('not here')")
    done = run_ufp4("tensorboard", folder, path=f"{hidden}{os.pathsep}{PACKAGE}")
    assert done.returncode == 2 and "pip install" in done.stderr and "Traceback" not in done.stderr


def test_a_page_is_followed_until_the_run_is_done(tmp_path):
    sys.path.insert(0, str(PACKAGE))
    from ufp4 import InputError
    from ufp4.report import follow

    folder = tmp_path / "run"
    write_run(folder, "ufp4", 1)
    result = folder / "result.json"
    pages = []

    def wait(seconds):
        assert seconds == 7
        pages.append((folder / "report.html").read_text())
        if len(pages) == 2:
            result.write_text("{}")

    assert follow(folder, folder / "report.html", 7, wait) == folder / "report.html"
    assert all('<meta http-equiv="refresh" content="7">' in page for page in pages) and len(pages) == 2
    assert "http-equiv" not in (folder / "report.html").read_text()
    with pytest.raises(InputError, match="no folder of a run"):
        follow(folder / "metrics.jsonl", folder / "report.html", 7, wait)
    assert run_ufp4("report", folder, "--follow", 0).returncode == 2


def test_events_are_added_while_the_run_goes_on(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sys.path.insert(0, str(PACKAGE))
    from ufp4.tensorboard_export import follow_events

    folder = tmp_path / "run"
    write_run(folder, "ufp4", 1)
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:50]))
    rounds = []

    def wait(_seconds):
        rounds.append(1)
        metrics.write_text("".join(lines))
        (folder / "result.json").write_text("{}")

    out = follow_events(folder, folder / "tensorboard", 5, wait)
    assert rounds == [1]
    events = EventAccumulator(str(out), size_guidance={"scalars": 0}).Reload()
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == sorted(set(steps)) and len(steps) == 400
