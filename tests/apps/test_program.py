"""The program as a whole: verbs, help, exit codes, and what a mistyped name gets."""
import json
import os
import subprocess

import pytest


def test_version(program):
    assert program.succeeds("--version").stdout.startswith("ufp4 ")


def test_help_lists_the_verbs(verbs):
    assert {"quantize", "formats", "info", "report"} <= set(verbs)


def test_every_verb_has_help_with_an_example(program, verbs):
    for verb in verbs:
        text = program.succeeds(verb, "--help").stdout
        assert "Example" in text and f"ufp4 {verb}" in text.split("Example")[1], verb


@pytest.mark.parametrize("arguments, message", [
    ([], "no verb given; see ufp4 --help"),
    (["quantise"], "unknown verb 'quantise' (did you mean 'quantize'?); see ufp4 --help"),
    (["--jsn"], "unknown option '--jsn'"),
    (["formats", "--jsn"], "unknown option '--jsn' (did you mean '--json'?); see ufp4 formats --help"),
    (["formats", "--jsn=1"], "unknown option '--jsn' (did you mean '--json'?); see ufp4 formats --help"),
    (["formats", "extra"], "unexpected argument 'extra'; see ufp4 formats --help"),
    (["quantize", "--fromat", "e1m2"], "unknown option '--fromat' (did you mean '--format'?); see ufp4 quantize --help"),
    (["quantize"], "IN is required; see ufp4 quantize --help"),
    (["quantize", "a", "b"], "--format is required; see ufp4 quantize --help"),
])
def test_wrong_usage(program, arguments, message):
    assert program.fails(2, *arguments).startswith(message)


def test_full_disk_of_the_output(program):
    with open("/dev/full", "w") as full:
        done = subprocess.run([program.path, "formats"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "ufp4: error: cannot write to standard output\n"


def test_formats(program):
    listed = json.loads(program.succeeds("formats", "--json").stdout)
    table = program.succeeds("formats").stdout.splitlines()
    assert [row["name"] for row in listed] == [line.split()[0] for line in table[1:]]
    by_name = {row["name"]: row for row in listed}
    e1m2 = by_name["e1m2"]
    assert e1m2["levels"] == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]
    assert e1m2["code_values"][8:] == [0, -0.25, -0.5, -0.75, -1, -1.25, -1.5, -1.75]
    assert (e1m2["block"], e1m2["scale"]) == (16, "fp32")
    assert by_name["int4_full"]["code_values"][8] == -8
    assert by_name["e2m1"]["levels"][-1] == 6


def test_info(program):
    info = json.loads(program.succeeds("info", "--json").stdout)
    assert program.succeeds("--version").stdout == f"ufp4 {info['version']}\n"
    chosen = [backend["name"] for backend in info["backends"] if backend["chosen"]]
    available = [backend["name"] for backend in info["backends"] if backend["available"]]
    assert chosen == available[:1]
    assert "scalar" in available
    assert [b["name"] for b in info["backends"] if b["device"]] == [name for name in available if name == "cuda"]
    text = program.succeeds("info").stdout
    for backend in info["backends"]:
        assert backend["name"] in text
    if info["torch"] is not None:
        assert {"bf16", "ufp4", "e2m1"} <= {recipe["name"] for recipe in info["recipes"]}
    sizes = {model["name"]: model["parameters_without_embeddings"] for model in info["models"]}
    assert 25e6 < sizes["25m"] < 26e6 and 1.3e9 < sizes["1.5b"] < 1.35e9
    assert all(name in text for name in sizes)


def test_bench(program, verbs):
    if "bench" not in verbs:
        pytest.skip("built without the benchmarks")
    backends = json.loads(program.succeeds("info", "--json").stdout)["backends"]
    chosen = next(b["name"] for b in backends if b["chosen"])
    result = json.loads(program.succeeds("bench", "--json", "--size", 1, "--repeats", 1, "--backend", chosen).stdout)
    assert result["kernels"][0]["kernel"] == "memcpy"
    assert {"quantize", "dequantize"} <= {row["kernel"] for row in result["kernels"]}
    assert all(row["gb_per_s"] > 0 for row in result["kernels"])
    table = program.succeeds("bench", "--size", 1, "--repeats", 1, "--backend", result["backend"]).stdout.splitlines()
    kernels = sum(row["kernel"] != "memcpy" for row in result["kernels"])
    assert sum(line.startswith(("quantize", "dequantize")) for line in table) == kernels
    assert program.fails(2, "bench", "--backend", "avx9").startswith("unknown backend 'avx9'")
    if "cuda" not in [b["name"] for b in backends]:
        assert "this build has no CUDA kernels" in program.fails(2, "bench", "--backend", "cuda")
    assert program.fails(2, "bench", "--size", "0").startswith("--size: found '0', expected a whole number from 1")


def test_report_of_nothing(program, folder):
    missing = folder / "missing"
    assert program.fails(2, "report", missing) == (
        f"'{missing}' does not exist; expected a folder that 'ufp4 train' or 'ufp4 compare' wrote, or a file with the output "
        "of 'ufp4 analyze --json' or 'ufp4 formats --json'")


def test_report_without_python(program, folder):
    message = program.fails(1, "report", folder, "--python", "/no/such/python")
    assert "cannot run the Python interpreter '/no/such/python': No such file or directory" in message


def test_report_runs_the_package(program, folder):
    """No shell lies between: a name full of its characters arrives as it is."""
    interpreter = folder / "interpreter"
    interpreter.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 2\n')
    interpreter.chmod(0o755)
    odd = folder / "a $(touch b); 'c'"
    odd.mkdir()
    done = program("report", odd, "--out", "x y.html", "--python", interpreter, cwd=folder)
    assert done.returncode == 2
    assert done.stderr == ""
    isolated, code, program_text, path, *arguments = done.stdout.splitlines()
    assert (isolated, code) == ("-I", "-c") and "ufp4.__main__" in program_text
    assert path.endswith("python")
    assert arguments == ["report", "--out", "x y.html", "--", str(odd)]
    assert not (folder / "b").exists()


@pytest.mark.parametrize("where", ["current folder", "PYTHONPATH", "PYTHONSTARTUP"])
def test_report_runs_no_code_of_the_current_folder(program, folder, where):
    """Whatever a folder from elsewhere holds: modules of the standard library, of the package, of what it needs."""
    run = folder / "run"
    run.mkdir()
    (run / "run.json").write_text('{"recipe": "ufp4"}')
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    planted = folder / "planted"
    planted.mkdir()
    for name in ("json", "runpy", "sitecustomize", "usercustomize", "argparse", "re", "html", "plotly", "jinja2", "encodings"):
        (planted / f"{name}.py").write_text(f"open({str(folder / 'executed')!r}, 'a').write('{name} ')\n")
    (planted / "ufp4").mkdir()
    for name in ("__init__", "__main__"):
        (planted / "ufp4" / f"{name}.py").write_text(f"open({str(folder / 'executed')!r}, 'a').write('{name} ')\n")
    variables = {"PYTHONPATH": planted, "PYTHONSTARTUP": planted / "json.py"}
    done = program("report", run, cwd=planted, env=os.environ | {name: str(path) for name, path in variables.items() if name == where})
    assert not (folder / "executed").exists(), (folder / "executed").read_text()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(run / "report.html")
