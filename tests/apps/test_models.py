"""ufp4 import and export against transformers: the same logits, and messages for what is wrong."""

import json
import shutil

import numpy as np
import pytest

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytest.importorskip("xxhash")

from safetensors.torch import load_file, save_file  # noqa: E402

import hf_models  # noqa: E402

TEXT = "the dog sat on the mat, é 日本 and the cat sat on the log." + " the mat and the log: 12 dogs"
# The C++ model rounds activations to BF16. Relative distance of all logits of a text, as a norm.
FP32_TOLERANCE = 0.02  # to transformers in FP32
BF16_TOLERANCE = 0.025  # to transformers in BF16, which rounds elsewhere


@pytest.fixture(autouse=True)
def needs_training(verbs):
    if "evaluate" not in verbs:
        pytest.skip("a build without torch")


def our_logits(program, run, folder, *options):
    """Of TEXT: the tokens, and a row of logits for each."""
    data = folder / "text.txt"
    data.write_text(TEXT)
    out = folder / "logits.safetensors"
    program.succeeds("evaluate", run, "--data", data, "--logits", out, "--device", "cpu", *options)
    found = load_file(out)
    return found["document.0.tokens"].long(), found["document.0.logits"]


def their_logits(model, tokens):
    with torch.no_grad():
        return model(tokens[None]).logits[0].float()


def distance(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", hf_models.KINDS)
def test_logits_are_those_of_transformers(kind, program, folder):
    hf = folder / "hf"
    model = hf_models.make(kind, hf)
    hf_models.byte_tokenizer(hf)
    program.succeeds("import", hf, folder / "run")
    tokens, ours = our_logits(program, folder / "run", folder)
    assert 30 < len(tokens) <= 96, tokens
    assert distance(ours, their_logits(model, tokens)) < FP32_TOLERANCE
    assert distance(ours, their_logits(model.to(torch.bfloat16), tokens)) < BF16_TOLERANCE


@pytest.mark.parametrize("kind", ["llama_llama3_tied", "qwen2_yarn", "qwen3", "olmo2", "mistral"])
def test_an_export_is_the_model_again(kind, program, folder):
    hf = folder / "hf"
    model = hf_models.make(kind, hf)
    tokenizer = hf_models.byte_tokenizer(hf)
    program.succeeds("import", hf, folder / "run")
    program.succeeds("export", folder / "run", folder / "back", "--dtype", "fp32", "--shard-size", "120KB")
    assert len(list((folder / "back").glob("*.safetensors"))) > 1
    again = transformers.AutoModelForCausalLM.from_pretrained(folder / "back")
    expected = model.state_dict()
    found = again.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    tokens = torch.tensor([tokenizer.token_to_id("<|endoftext|>"), *tokenizer.encode(TEXT).ids])
    assert distance(their_logits(again, tokens), their_logits(model, tokens)) < 1e-6
    loaded = transformers.AutoTokenizer.from_pretrained(folder / "back")
    assert loaded(TEXT)["input_ids"] == tokenizer.encode(TEXT).ids
    assert loaded.decode(loaded(TEXT)["input_ids"]) == TEXT


def test_a_trained_run_is_exported_with_its_bytes(program, folder):
    run = folder / "run"
    program.succeeds("train", "--model", "tiny", "--data", "builtin", "--steps", 2, "--out", run, "--device", "cpu",
                     "--set", "model.layers=2", "--set", "model.qk_norm=true", "--set", "train.batch=2",
                     "--set", "data.val_fraction=0")
    program.succeeds("export", run, folder / "hf")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "hf")
    assert model.dtype == torch.bfloat16 and model.config.model_type == "qwen3"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "hf")
    assert tokenizer(TEXT)["input_ids"] == list(TEXT.encode())
    assert tokenizer.decode(list(TEXT.encode())) == TEXT
    tokens, ours = our_logits(program, run, folder, "--recipe", "bf16")
    assert tokens.tolist() == [256, *TEXT.encode()]
    assert distance(ours, their_logits(model, tokens)) < BF16_TOLERANCE
    assert distance(ours, their_logits(model.float(), tokens)) < FP32_TOLERANCE
    _, quantized = our_logits(program, run, folder)
    assert distance(quantized, ours) > 1e-3  # as trained is another matter


@pytest.mark.parametrize("packing", ["nvfp4", "mxfp4", "int4"])
def test_packed_weights_are_read_by_compressed_tensors(packing, program, folder):
    compressors = pytest.importorskip("compressed_tensors.compressors")
    from compressed_tensors.quantization import QuantizationConfig

    hf = folder / "hf"
    hf_models.make("qwen3", hf, head_dim=32)
    program.succeeds("import", hf, folder / "run")
    program.succeeds("export", folder / "run", folder / "packed", "--format", packing, "--dtype", "fp32")
    told = json.loads((folder / "packed" / "config.json").read_text())["quantization_config"]
    assert QuantizationConfig.model_validate({key: value for key, value in told.items() if key != "producer"})
    scheme = QuantizationConfig.model_validate(told).config_groups["group_0"]
    compressor = compressors.BaseCompressor.get_value_from_registry(told["format"])
    packed = load_file(folder / "packed" / "model.safetensors")
    whole = {}
    for shard in hf.glob("*.safetensors"):
        whole |= load_file(shard)
    linears = sorted(name for name in whole if name.endswith("_proj.weight"))
    save_file({name: whole[name].to(torch.bfloat16) for name in linears}, folder / "linears.safetensors")
    program.succeeds("quantize", folder / "linears.safetensors", folder / "ours.safetensors", "--format", packing,
                     "--block", 16 if packing == "nvfp4" else 32)
    ours = load_file(folder / "ours.safetensors")
    for name in linears:
        module = name.removesuffix(".weight")
        state = {key.removeprefix(module + "."): tensor for key, tensor in packed.items() if key.startswith(module + ".")}
        if packing == "nvfp4":
            state["weight_scale"] = state["weight_scale"].float()
        found = compressor.decompress(state, scheme)["weight"].float()
        # A product with a reciprocal and BF16 arithmetic in the package are all that lies between.
        torch.testing.assert_close(found, ours[name + ".dequant"], rtol=1e-2 if packing != "int4" else 1e-6, atol=1e-7)
    assert torch.equal(packed["model.norm.weight"], whole["model.norm.weight"])
    assert "model.layers.0.mlp.up_proj.weight" not in packed


@pytest.mark.parametrize("packing", ["nvfp4", "mxfp4", "int4"])
def test_transformers_loads_packed_weights(packing, program, folder):
    pytest.importorskip("compressed_tensors")
    hf = folder / "hf"
    hf_models.make("qwen3", hf, head_dim=32)
    program.succeeds("import", hf, folder / "run")
    program.succeeds("export", folder / "run", folder / "plain", "--dtype", "fp32")
    program.succeeds("export", folder / "run", folder / "packed", "--format", packing)
    tokens = torch.arange(10, 60)
    plain = their_logits(transformers.AutoModelForCausalLM.from_pretrained(folder / "plain"), tokens)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "packed", dtype=torch.bfloat16)
    far = distance(their_logits(model, tokens), plain)
    assert 0.01 < far < 0.6, far  # 4 bits are seen, and are no noise


def test_training_and_analysis_go_on_with_an_imported_model(program, folder):
    hf = folder / "hf"
    hf_models.make("qwen2_yarn", hf)
    data = folder / "data.txt"
    data.write_text(TEXT * 60)
    program.succeeds("import", hf, folder / "start", "--context", 32)
    run = folder / "run"
    common = ["train", "--init", folder / "start", "--data", data, "--steps", 4, "--out", run, "--device", "cpu",
              "--set", "train.batch=2", "--set", "optimizer.lr=0", "--set", "data.val_fraction=0"]
    done = program.succeeds(*common, "--recipe", "ufp4", "--set", "optimizer.lr=1e-4")
    assert "begins with the weights of" in done.stderr + done.stdout
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    evaluated = json.loads(program.succeeds("evaluate", run, "--data", data, "--json", "--device", "cpu").stdout)
    assert evaluated["recipe"] == "ufp4" and abs(evaluated["loss"] - first["loss"]) < 1.5
    chain = json.loads(program.succeeds("analyze", run, "--chain", "--recipes", "ufp4", "--json", "--data", data,
                                        "--device", "cpu").stdout)
    assert [linear["linear"] for linear in chain["recipes"][0]["linears"]][:2] == ["layers.0.linear_qkv", "layers.0.linear_proj"]
    chain = json.loads(program.succeeds("analyze", folder / "start", "--chain", "--recipes", "ufp4", "--json", "--data",
                                        data, "--device", "cpu").stdout)
    assert chain["step"] == 0
    assert "give --data" in program.fails(2, "analyze", folder / "start", "--chain", "--recipes", "ufp4")


def message(program, *arguments):
    """Of the Python package, which says what is wrong itself."""
    done = program("import", *arguments)
    assert done.returncode == 2, done.stderr
    return done.stderr.strip().splitlines()[-1].removeprefix("ufp4: ")


def change_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "qwen3"
    hf_models.make("qwen3", folder)
    return folder


@pytest.fixture
def hf(sharded, folder):
    shutil.copytree(sharded, folder / "hf")
    return folder / "hf"


@pytest.mark.parametrize(("changes", "said"), [
    ({"attention_bias": True}, "'attention_bias' is True, expected False"),
    ({"hidden_act": "gelu"}, "'hidden_act' is 'gelu', expected 'silu'"),
    ({"logit_softcap": 30.0}, "the key 'logit_softcap' (30.0) is not understood"),
    ({"model_type": "gpt2"}, "'model_type' is 'gpt2', expected one of llama"),
    ({"quantization_config": {}}, "'quantization_config' is there"),
    ({"num_attention_heads": "4"}, "'num_attention_heads' is '4', expected a whole number"),
    ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'rope_type' is 'dynamic', expected one of"),
    ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0, "odd": 1}}, "the key 'odd' (1)"),
    ({"use_sliding_window": True, "sliding_window": 8, "layer_types": ["sliding_attention"] * 2}, "'sliding_window' is 8"),
    ({"intermediate_size": 100}, "has the shape"),
    ({"vocab_size": 2**40}, "'vocab_size' is 1099511627776, expected a whole number"),
])
def test_a_config_that_is_not_understood_is_refused_by_its_key(hf, folder, program, changes, said):
    change_config(hf, **changes)
    assert said in message(program, hf, folder / "run")
    assert not (folder / "run").exists() and not list(folder.glob(".run*"))


def test_shards_that_are_missing_doubled_or_elsewhere_are_refused(hf, folder, program):
    index = hf / "model.safetensors.index.json"
    whole = json.loads(index.read_text())
    files = sorted(set(whole["weight_map"].values()))
    assert len(files) > 2

    def refused(weight_map):
        index.write_text(json.dumps({**whole, "weight_map": weight_map}))
        return message(program, hf, folder / "run")

    name = "model.norm.weight"
    assert "expected a safetensors file of the same folder" in refused(whole["weight_map"] | {name: "../x.safetensors"})
    assert "expected a safetensors file of the same folder" in refused(whole["weight_map"] | {name: "/etc/passwd"})
    assert "is missing, which model.safetensors.index.json names" in refused(whole["weight_map"] | {name: "no.safetensors"})
    other = next(file for file in files if file != whole["weight_map"][name])
    assert f"tensor '{name}' is not in '{other}'" in refused(whole["weight_map"] | {name: other})
    shutil.copyfile(hf / files[0], hf / "model-9.safetensors")
    assert "is in" in refused(whole["weight_map"] | {"another": "model-9.safetensors"})
    index.write_text(json.dumps(whole))
    data = (hf / files[0]).read_bytes()
    (hf / files[0]).write_bytes(data[:-3])
    assert "bytes of data" in message(program, hf, folder / "run") or "within the file" in message(program, hf, folder / "run")
    (hf / files[0]).write_bytes(b"\xff" * 32)
    assert "is no safetensors file" in message(program, hf, folder / "run")
    (hf / files[0]).unlink()
    assert "is missing" in message(program, hf, folder / "run")


def test_wrong_tensors_are_refused_by_name(hf, folder, program):
    index = hf / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]

    def rewrite(name, change):
        tensors = load_file(hf / places[name])
        change(tensors)
        save_file(tensors, hf / places[name], {"format": "pt"})
        return message(program, hf, folder / "run")

    name = "model.layers.1.self_attn.q_norm.weight"
    kept = load_file(hf / places[name])[name]
    assert f"'{name}' has values that are not finite" in rewrite(name, lambda t: t.update({name: kept * np.inf}))
    assert f"'{name}' is of type I64" in rewrite(name, lambda t: t.update({name: kept.long()}))
    whole = json.loads(index.read_text())
    index.write_text(json.dumps({**whole, "weight_map": {**places, "model.layers.9.odd": places[name]}}))
    assert "'model.layers.9.odd' and 0 more have no place" in rewrite(name, lambda t: t.update({name: kept, "model.layers.9.odd": kept.clone()}))


def test_pickle_files_are_never_read(hf, folder, program):
    for file in [*hf.glob("*.safetensors"), hf / "model.safetensors.index.json"]:
        file.unlink()
    (hf / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch " + bytes(str(folder / "ran"), "ascii") + b"'\ntR.")
    said = message(program, hf, folder / "run")
    assert "pytorch_model.bin is a pickle file" in said and "was not opened" in said
    assert not (folder / "ran").exists()


def test_an_existing_folder_is_refused(hf, folder, program):
    (folder / "there").mkdir()
    assert "exists" in message(program, hf, folder / "there")
    program.succeeds("import", hf, folder / "run")
    done = program("export", folder / "run", folder / "there")
    assert done.returncode == 2 and "writes over nothing" in done.stderr
    done = program("export", folder / "run", folder / "new", "--shard-size", "big")
    assert done.returncode == 2 and "--shard-size is 'big'" in done.stderr
    done = program("export", folder / "run", folder / "new", "--dtype", "fp8")
    assert done.returncode == 2 and "--dtype is 'fp8'" in done.stderr


def test_a_tokenizer_beyond_the_vocabulary_is_refused(hf, folder, program):
    hf_models.byte_tokenizer(hf)
    change_config(hf, vocab_size=200)
    assert "expected ids below 'vocab_size', 200" in message(program, hf, folder / "run")
    (hf / "tokenizer.json").write_text("{}")
    assert "is no tokenizer" in message(program, hf, folder / "run")
