"""ufp4 generate and evaluate: on a run of bytes, and on a model with a tokenizer."""

import json
import math

import pytest

import hf_models


@pytest.fixture(scope="module")
def run(ufp4, tmp_path_factory):
    """Of a few steps, quantized."""
    from conftest import Program

    program = Program(ufp4)
    if "generate" not in program.succeeds("--help").stdout:
        pytest.skip("a build without torch")
    folder = tmp_path_factory.mktemp("text") / "run"
    program.succeeds("train", "--model", "tiny", "--data", "builtin", "--steps", 30, "--out", folder, "--device", "cpu",
                     "--set", "model.layers=2", "--set", "model.context=64", "--set", "data.val_fraction=0")
    return folder


@pytest.fixture(scope="module")
def tokenized(run, ufp4, tmp_path_factory):
    """An imported model with a tokenizer."""
    pytest.importorskip("transformers")
    from conftest import Program

    folder = tmp_path_factory.mktemp("text")
    hf_models.make("qwen3", folder / "hf")
    hf_models.byte_tokenizer(folder / "hf")
    Program(ufp4).succeeds("import", folder / "hf", folder / "model")
    return folder / "model"


def generated(program, run, *options):
    done = program.succeeds("generate", run, "--json", "--device", "cpu", *options)
    return json.loads(done.stdout)


def test_the_same_seed_gives_the_same_text(run, program):
    first = generated(program, run, "--prompt", "the ", "--seed", 3, "--max-tokens", 20, "--ignore-end")
    assert first == generated(program, run, "--prompt", "the ", "--seed", 3, "--max-tokens", 20, "--ignore-end")
    assert first["text"] != generated(program, run, "--prompt", "the ", "--seed", 4, "--max-tokens", 20, "--ignore-end")["text"]
    assert first["tokens"] == 20 and first["end"] == "length" and first["recipe"] == "ufp4" and first["prompt_tokens"] == 4
    assert generated(program, run, "--prompt", "the ", "--recipe", "bf16", "--max-tokens", 2)["recipe"] == "bf16"


def test_the_text_streams_as_it_is_in_json(run, program):
    options = ["--prompt", "the ", "--temperature", 0, "--max-tokens", 12, "--ignore-end"]
    text = generated(program, run, *options)["text"]
    assert program.succeeds("generate", run, "--device", "cpu", *options).stdout == "the " + text + "\n"


def test_a_stop_ends_the_text_and_is_left_out(run, program):
    options = ["--prompt", "the ", "--temperature", 0, "--max-tokens", 30, "--ignore-end"]
    whole = generated(program, run, *options)["text"]
    stop = whole[4:7]
    cut = generated(program, run, *options, "--stop", stop, "--stop", "no such text")
    assert cut["text"] == whole[: whole.index(stop)] and cut["end"] == "stop"
    assert "--stop is empty" in program.fails(2, "generate", run, "--prompt", "a", "--stop", "")


def test_the_context_bounds_prompt_and_text(run, program):
    found = generated(program, run, "--prompt", "x" * 60, "--max-tokens", 50, "--ignore-end")
    assert found["tokens"] == 3  # 64 with the separator
    assert "has 71 tokens, expected fewer than the model's context, 64" in program.fails(
        2, "generate", run, "--prompt", "x" * 70)


def test_greedy_text_is_what_transformers_generates(tokenized, program, folder):
    import torch
    import transformers

    program.succeeds("export", tokenized, folder / "hf", "--dtype", "fp32")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "hf")
    prompt = "the cat sat on the"
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(prompt)["input_ids"]]])
    found = generated(program, tokenized, "--prompt", prompt, "--temperature", 0, "--max-tokens", 6, "--ignore-end")
    expected = model.generate(ids, max_new_tokens=6, min_new_tokens=6, do_sample=False, pad_token_id=0)[0, ids.shape[1]:]
    assert found["prompt_tokens"] == ids.shape[1] - 1
    # Random weights leave near ties, which BF16 may decide otherwise after some tokens.
    assert found["text"].startswith(tokenizer.decode(expected[:2]))


def test_evaluate_is_the_loss_of_every_token(run, program, folder):
    data = folder / "two.jsonl"
    texts = ["the cat ends", "é 日本 " * 20]
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = json.loads(program.succeeds("evaluate", run, "--data", data, "--json", "--device", "cpu").stdout)
    sizes = [len(text.encode()) for text in texts]
    assert [document["bytes"] for document in found["documents"]] == sizes
    assert [document["tokens"] for document in found["documents"]] == sizes  # each token is predicted once
    assert found["tokens"] == sum(sizes) and found["bytes"] == sum(sizes)
    nats = sum(document["loss"] * document["tokens"] for document in found["documents"])
    assert math.isclose(found["loss"], nats / found["tokens"], rel_tol=1e-9)
    assert math.isclose(found["perplexity"], math.exp(found["loss"]))
    assert math.isclose(found["bits_per_byte"], found["loss"] / math.log(2))
    more = json.loads(program.succeeds("evaluate", run, "--data", data, "--json", "--stride", 16, "--device", "cpu").stdout)
    assert more["tokens"] == found["tokens"] and more["loss"] != found["loss"]
    assert more["documents"][0]["loss"] == found["documents"][0]["loss"]  # it fits into one window
    assert "--stride is 65" in program.fails(2, "evaluate", run, "--data", data, "--stride", 65)


def test_evaluate_agrees_with_transformers(tokenized, program, folder):
    import torch
    import transformers

    program.succeeds("export", tokenized, folder / "hf", "--dtype", "fp32")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "hf")
    text = "the dog sat on the log and <|endoftext|> the mat"  # spelled in the text, it is text
    data = folder / "a.txt"
    data.write_text(text)
    found = json.loads(program.succeeds("evaluate", tokenized, "--data", data, "--json", "--device", "cpu").stdout)
    tokenizer.backend_tokenizer.encode_special_tokens = True
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids]])
    with torch.no_grad():
        expected = float(model(ids, labels=ids).loss)
    assert found["tokens"] == ids.shape[1] - 1 and found["bytes"] == len(text.encode())
    assert math.isclose(found["loss"], expected, rel_tol=0.01)
    assert math.isclose(found["bits_per_byte"], found["loss"] * found["tokens"] / math.log(2) / found["bytes"])


def test_a_model_without_a_known_tokenizer_reads_no_text(tokenized, program, folder):
    import shutil

    shutil.copytree(tokenized, folder / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    data = folder / "a.txt"
    data.write_text("text")
    assert "has no tokenizer.json" in program.fails(2, "evaluate", folder / "bare", "--data", data)
    assert "has no tokenizer.json" in program.fails(2, "generate", folder / "bare", "--prompt", "a")
    (folder / "bare" / "tokenizer.json").write_text("{")
    done = program("generate", folder / "bare", "--prompt", "a")
    assert done.returncode == 2 and "tokenizer.json is no tokenizer" in done.stderr
