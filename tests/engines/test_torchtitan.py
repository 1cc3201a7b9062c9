"""ufp4.torchtitan on a CPU with gloo: torchtitan's parallelisms give the losses of one process, and its random bits."""

import json
import math
from pathlib import Path

import pytest
import titan_matrix
from conftest import ROOT

HERE = Path(__file__).parent
TOKENS = titan_matrix.BATCH * titan_matrix.SEQUENCE


@pytest.fixture(scope="session")
def results(request, tmp_path_factory, ops_library, python):
    """By run: what each of its processes wrote."""
    folder = tmp_path_factory.mktemp("torchtitan")
    runs = titan_matrix.CORE + (titan_matrix.REST + titan_matrix.CONTEXT if request.config.getoption("--whole-matrix") else [])
    python("examples/torchtitan_text.py", folder, 2048, "LICENSE", "README.md", *sorted(str(file) for file in (ROOT / "docs").glob("*.md")))
    (folder / "runs.json").write_text(json.dumps(runs))
    print(python(HERE / "titan_runs.py", ops_library, folder / "runs.json", folder, seconds=1800))

    def read(run, rank):
        file = folder / f"{run['name']}.{rank}.json"
        if file.is_file():
            return json.loads(file.read_text())
        log = folder / f"{run['name']}.{rank}.log"
        return {"error": "ended without a result", "log": log.read_text()[-3000:] if log.is_file() else ""}

    return {run["name"]: [read(run, rank) for rank in range(run["processes"])] for run in runs}


def good(results, name):
    """What the last process of a run wrote, which has the loss of a pipeline too."""
    for rank, found in enumerate(results[name]):
        assert "error" not in found, f"{name}, process {rank}: {found['error']}\n{found.get('log', '')}"
    return results[name][-1]


def distances(results, name, reference):
    """By weight: how far the direction of a run's first gradient is from that of another run. Directions alone, since
    torchtitan 0.2.2 does not divide gradients by the tokens of a batch in a pipeline."""
    found = {weight: values for process in results[name] for weight, values in process["gradients"].items()}
    wanted = good(results, reference)["gradients"]
    assert found.keys() == wanted.keys() and wanted
    return {weight: distance(values, wanted[weight]) for weight, values in found.items()}


def distance(a, b):
    of_a, of_b = math.hypot(*a), math.hypot(*b)
    return math.dist([x / of_a for x in a], [x / of_b for x in b])


def check_like(results, name, reference, first=0):
    """Losses and first gradients of a run are those of another one, from its step `first` on. Other random bits turn
    these gradients by more than 1e-2, sums in another order by some 2e-7. Tensor parallel is another matter: it adds parts
    of y and dx that were rounded to BF16, which moves codes; tests/package has the places of its random bits."""
    found, wanted = good(results, name), good(results, reference)
    in_parts = "tp" in name.split("_")
    assert found["steps"] == wanted["steps"][first:]
    assert found["loss"][0] == pytest.approx(wanted["loss"][first], rel=5e-4 if in_parts else 1e-5)
    assert found["loss"] == pytest.approx(wanted["loss"][first:], rel=1e-2 if in_parts else 5e-3)
    if first == 0:
        assert max(distances(results, name, reference).values()) < (6e-2 if in_parts else 1e-5)


def test_the_converter_says_what_it_did(results):
    lines = good(results, "llama3")["lines"]
    assert "ufp4: 14 linear layers under recipe 'ufp4' (E1M2, RHT-16 on fprop, dgrad and wgrad, SR on dY)" in lines
    assert "  layers.*.feed_forward.w1 (2): [768, 256]" in lines
    assert "    output: keep_bf16 has 'output'" in lines


def test_patterns_and_recipes_of_the_configuration(results):
    lines = good(results, "llama3_kept")["lines"]
    assert any(line.startswith("ufp4: 6 linear layers") for line in lines)  # 14, without 7 of layer 0 and wo of layer 1
    assert "    layers.*.attention.wq: keep_bf16 has 'layers.0.*'" in lines
    assert "    layers.*.attention.wo: keep_bf16 has 'wo'" in lines
    error = results["llama3_no_pattern"][0]["error"]
    assert "keep_bf16 pattern 'layers.0.attention.wx' matches no linear layer (did you mean 'layers.0.attention.wv'?)" in error


def test_a_trainer_without_the_clock_is_refused(results):
    assert "stood still for an optimizer's step" in results["llama3_foreign_trainer"][0]["error"]


def test_training_is_quantized_and_follows_the_seed(results):
    """Differences that the tests below must notice: their tolerances are under these."""
    assert min(distances(results, "llama3_bf16", "llama3").values()) > 7e-2
    assert min(distances(results, "llama3_other_seed", "llama3").values()) > 7e-2
    assert good(results, "llama3")["loss"] == pytest.approx(good(results, "llama3_bf16")["loss"], rel=1e-2)
    assert not good(results, "llama3_bf16")["clock"]


def test_the_clock_is_step_token_and_place(results):
    places = [found["clock"] for found in results["llama3_fsdp_accumulated"]]
    for rank, clock in enumerate(places):
        # step, first token, rank, ranks, passes that wait: 2 micro-batches of 2 rows over all processes
        assert clock == [[step, token, rank, 2, 0] for step in range(titan_matrix.STEPS) for token in (0, TOKENS // 2)]


@pytest.mark.parametrize("name", [
    "llama3_weights_of_steps", "llama3_fsdp", "llama3_fsdp_accumulated", "llama3_fsdp_full", "llama3_fsdp_selective", "llama3_fsdp_compile",
    "llama3_ddp", "llama3_tp", "llama3_tp_full", "llama3_pp", "llama3_pp_gpipe_full"])
def test_llama3_as_in_one_process(results, name):
    check_like(results, name, "llama3")


@pytest.mark.parametrize(("name", "without"), [
    ("llama3_fsdp_full", "llama3_fsdp"), ("llama3_fsdp_selective", "llama3_fsdp"), ("llama3_tp_full", "llama3_tp")])
def test_checkpointing_changes_no_bit(results, name, without):
    found, plain = good(results, name), good(results, without)
    assert (found["loss"], found["grad_norm"]) == (plain["loss"], plain["grad_norm"])


@pytest.mark.parametrize(("name", "times"), [("llama3_fsdp", 1), ("llama3_fsdp_full", 2), ("llama3_fsdp_selective", 1)])
def test_selective_checkpointing_keeps_the_products(results, name, times):
    assert good(results, name)["forward_products"] == 14 * times


def test_blocks_are_compiled_once_each(results):
    assert good(results, "llama3_fsdp_compile")["graphs"] == 2


def test_a_resumed_run_has_the_same_bits(results):
    found, straight = good(results, "llama3_resumed"), good(results, "llama3_fsdp")
    assert found["steps"] == [3, 4]
    assert (found["loss"], found["grad_norm"]) == (straight["loss"][2:], straight["grad_norm"][2:])


def test_a_run_resumes_on_another_mesh(results):
    check_like(results, "llama3_resumed_tp", "llama3", first=2)


def test_text_and_configuration_of_the_documentation(results):
    found = good(results, "llama3_text")
    assert any(line.startswith("ufp4: 42 linear layers") for line in found["lines"])
    assert found["loss"][-1] < found["loss"][0]


@pytest.mark.parametrize(("name", "reference"), [
    ("qwen3_fsdp", "qwen3"), ("qwen3_moe_ep", "qwen3_moe"), ("deepseek_v3_fsdp", "deepseek_v3"), ("deepseek_v3_pp", "deepseek_v3")])
def test_other_models_as_in_one_process(results, name, reference):
    check_like(results, name, reference)


def test_grouped_experts_stay_in_bf16_and_the_report_says_so(results):
    lines = good(results, "deepseek_v3")["lines"]
    assert "    layers.*.moe.experts: grouped experts: their products take all experts at once, and ufp4 has no operator for that yet" in lines
    assert "    layers.*.moe.router.gate: keep_bf16 has 'router.*'" in lines
    assert any(line.startswith("  layers.*.moe.shared_experts.w1") for line in lines)


def test_the_rest_of_the_matrix_as_in_one_process(request, results):
    if not request.config.getoption("--whole-matrix"):
        pytest.skip("scripts/test-torchtitan runs it")
    failed = []
    for run in titan_matrix.REST:
        name = run["name"]
        model = max((m for m in titan_matrix.MODELS if name.startswith(m)), key=len)
        try:
            check_like(results, name, model)
        except AssertionError as error:
            failed.append(f"{name}: {error}")
    assert not failed, "\n\n".join(failed)


def test_context_parallel_trains_as_in_bf16(request, results):
    if not request.config.getoption("--whole-matrix"):
        pytest.skip("scripts/test-torchtitan runs it")
    found, plain = good(results, "llama3_cp"), good(results, "llama3_cp_bf16")
    assert found["loss"] == pytest.approx(plain["loss"], rel=2e-3)
    assert [clock[2:4] for clock in found["clock"]] == [[1, 2]] * titan_matrix.STEPS


def test_the_entry_point_has_the_section(python):
    said = python("-m", "ufp4.torchtitan.train", "--help")
    for option in ("--ufp4.recipe", "--ufp4.keep-bf16", "--ufp4.seed", "--ufp4.weights", "--training.seq-len"):
        assert option in said


@pytest.mark.parametrize(("found", "says"), [
    ("0.3.0",
     "ufp4.torchtitan is for torchtitan 0.2.2 (torch 2.11), and 0.3.0 is installed: pip install torchtitan==0.2.2"),
    (None,
     "ufp4.torchtitan is for torchtitan 0.2.2 (torch 2.11), and none is installed: pip install torchtitan==0.2.2")])
def test_another_version_is_refused(python, found, says):
    code = ("import importlib.metadata as m\n"
            f"found = {found!r}\n"
            "def version(name):\n"
            "    if found is None: raise m.PackageNotFoundError(name)\n"
            "    return found\n"
            "m.version = version\n"
            "try: import ufp4.torchtitan\n"
            "except ImportError as error: print(error)\n")
    assert says in python("-c", code)


def test_a_configuration_without_the_section_is_refused(python):
    said = python("-c", "import torchtitan.config\nfrom ufp4.torchtitan import LinearConverter\n"
                        "LinearConverter(torchtitan.config.JobConfig(), None)\n", fails=True)
    assert "quantize.linear.ufp4 found no section [ufp4] in the configuration: start ufp4.torchtitan.train" in said
