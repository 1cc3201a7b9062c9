"""The Python programs in examples/ train: alone, and the loop of accelerate on two processes."""

import re

import pytest
from conftest import ROOT

EXAMPLES = ROOT / "examples"
STEPS = 31


def losses(said):
    return [float(loss) for loss in re.findall(r"^step \d+ loss ([\d.]+)$", said, re.M)]


@pytest.fixture
def example(ops_library, python, tmp_path):
    """Runs an example on the operators under test, with options of the interpreter before it."""
    program = tmp_path / "example.py"

    def run(name, *before):
        program.write_text(f"import runpy, sys\nimport ufp4.library\nufp4.library.use({str(ops_library)!r})\n"
                           f"sys.argv = [{name!r}, {str(ROOT / 'LICENSE')!r}, '{STEPS}']\n"
                           f"runpy.run_path({str(EXAMPLES / name)!r}, run_name='__main__')\n")
        return python(*before, program)

    return run


@pytest.mark.parametrize(("name", "layers"), [("plain_loop.py", 8), ("huggingface_trainer.py", 14), ("accelerate_loop.py", 14)])
def test_an_example_learns(example, name, layers):
    said = example(name)
    assert f"ufp4: {layers} linear layers under recipe 'ufp4'" in said
    found = losses(said)
    assert len(found) >= 3
    assert found[-1] < found[0] - 0.8


def test_the_loop_of_accelerate_on_two_processes(example):
    said = example("accelerate_loop.py", "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0")
    found = losses(said)
    assert len(found) == 4
    assert found[-1] < found[0] - 0.8


def test_the_plain_loop_is_sixty_lines():
    assert len((EXAMPLES / "plain_loop.py").read_text().splitlines()) <= 60


def test_transformers_needs_one_line():
    code = (EXAMPLES / "huggingface_trainer.py").read_text()
    assert len(re.findall(r"^[^\"#\n]*\bufp4\.", code, re.M)) == 1


def test_the_benchmark_of_torchtitan_prints_its_table(ops_library, python):
    said = python(ROOT / "benchmarks" / "torchtitan_device_run.py", "--cpu", "--steps", "20", "--batch", "4", "--length", "64", "--ops-library", ops_library)
    losses_of_steps = re.findall(r"^ +(1|10|20) +(\d\.\d{4}) +(\d\.\d{4}) +([+-]\d\.\d{4})$", said, re.M)
    assert [row[0] for row in losses_of_steps] == ["1", "10", "20"]
    assert all(abs(float(bf16) - float(ufp4)) < 0.1 for _, bf16, ufp4, _ in losses_of_steps)
    assert re.search(r"^tokens/s +[\d,]+ +[\d,]+ +x \d\.\d{3}$", said, re.M)


def test_the_benchmark_of_steps_prints_its_ratios(ops_library, python):
    sizes = [word for size in ("d_model=64", "layers=2", "heads=2", "ffn=128", "context=32", "vocab_size=64") for word in ("--set", size)]
    said = python(ROOT / "benchmarks" / "torch_compile_step.py", ROOT / "models" / "350m.toml", *sizes, "--batch", "2", "--steps", "2", "--device", "cpu",
                  "--compile", "none", "--modes", "bf16,ufp4_p2", "--ops-library", ops_library)
    for mode in ("bf16", "ufp4_p2"):
        assert re.search(rf"^{mode}: [\d.]+ ms a step, [\d,]+ tokens/s, ready after \d+ s$", said, re.M)
    assert re.search(r"^bf16 1\.000, ufp4_p2 [\d.]+ times the speed of bf16$", said, re.M)


def test_the_callback_of_the_documentation_sets_the_clock(ops_library, python):
    page = (ROOT / "docs" / "engines.md").read_text()
    callback = page.split("```python\n")[1].split("\nclock = ")[0]
    said = python("-c", f"""
import tempfile, torch, transformers, ufp4, ufp4.library
ufp4.library.use({str(ops_library)!r})
{callback}
config = transformers.LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
data = [{{"input_ids": row, "labels": row}} for row in torch.arange(8 * 16).view(8, 16) % 64]

def train(folder, steps, resume):
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    clock = ufp4.convert(model, "ufp4", keep_bf16=["lm_head"], quiet=True).clock
    places, move = [], clock.set
    clock.set = lambda step, token=0: (places.append((step, token)), move(step, token))
    arguments = transformers.TrainingArguments(output_dir=folder, max_steps=steps, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        save_steps=2, report_to="none", disable_tqdm=True, use_cpu=True)
    transformers.Trainer(model, arguments, train_dataset=data, callbacks=[FollowTrainer(clock, 32)]).train(resume_from_checkpoint=resume)
    print("places", places, clock.step)

with tempfile.TemporaryDirectory() as folder:
    train(folder, 2, None)
    train(folder, 3, True)
""")
    assert "places [(0, 0), (0, 32), (1, 32)] 2" in said
    assert "places [(2, 0), (2, 32)] 3" in said
