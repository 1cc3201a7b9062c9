"""ufp4 plan: the same figures as the program's own, and what devices share."""

import json

import pytest

GIB = 2**30


@pytest.fixture(autouse=True)
def needs_training(verbs):
    if "plan" not in verbs:
        pytest.skip("a build without torch")


def planned(program, *options):
    return json.loads(program.succeeds("plan", *options, "--json").stdout)


def test_parameters_and_bytes_follow_from_the_model(program):
    plan = planned(program, "1.5b", "--set", "model.vocab_size=32000")
    assert 1.3e9 < plan["non_embedding_parameters"] < 1.32e9
    assert plan["parameters"] == plan["non_embedding_parameters"] + 2 * 32000 * 2048
    assert plan["tokens_per_step"] == 4 * 4096
    for recipe in plan["recipes"]:
        sizes = recipe["bytes"]
        assert sizes["weights"] == 4 * plan["parameters"] and sizes["moments"] == 2 * sizes["weights"]
        kept = sizes["stash"] + sizes["activations"]
        assert sizes["total"] == pytest.approx(sizes["weights"] + sizes["moments"] + sizes["operands"] + max(sizes["gradients"], kept))
        seconds = recipe["seconds"]
        assert seconds["total"] == pytest.approx(sum(value for key, value in seconds.items() if key != "total"))
        assert recipe["tokens_per_s"] == pytest.approx(plan["tokens_per_step"] / seconds["total"])
    bf16, ufp4, p2 = plan["recipes"]
    assert bf16["seconds"]["quantization"] == 0 and ufp4["bytes"]["stash"] < bf16["bytes"]["stash"] / 2
    assert p2["seconds"]["linears"] < 0.6 * bf16["seconds"]["linears"]


def test_devices_share_state_and_batch(program):
    one = planned(program, "1.5b", "--recipes", "bf16")
    eight = planned(program, "1.5b", "--recipes", "bf16", "--devices", 8)
    assert eight["tokens_per_step"] == 8 * one["tokens_per_step"]
    a, b = one["recipes"][0], eight["recipes"][0]
    assert b["bytes"]["weights"] == a["bytes"]["weights"] / 8 and b["bytes"]["activations"] == a["bytes"]["activations"]
    assert b["seconds"]["linears"] == a["seconds"]["linears"]
    assert "expected a multiple of --devices, 8" in program.fails(2, "plan", "1.5b", "--devices", 8, "--set", "train.batch=12")


def test_what_does_not_fit_is_marked(program):
    plan = planned(program, "1.5b", "--memory", 20)
    assert not plan["recipes"][0]["fits"] and plan["memory"] == 20 * GIB
    assert "more than the 20 of the device" in program.succeeds("plan", "1.5b", "--memory", 20).stdout
    assert planned(program, "tiny", "--recipes", "ufp4")["recipes"][0]["fits"]


def test_wrong_words_are_refused(program):
    assert "--on is 'h20' (did you mean 'h200'?)" in program.fails(2, "plan", "1.5b", "--on", "h20")
    assert "unknown model '1.5a'" in program.fails(2, "plan", "1.5a")
    assert "unknown key" in program.fails(2, "plan", "1.5b", "--set", "train.bath=3")
