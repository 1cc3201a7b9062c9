"""convert and revert."""

import copy
import io
import pickle

import pytest
import torch
import ufp4
from torch import nn

from package_models import WIDTH, Net, gradients, net, normal, same


def test_parameters_names_and_state_stay(capsys):
    model = net()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = [id(p) for p in model.parameters()]
    report = ufp4.convert(model, "ufp4", keep_bf16=["lm_head"], seed=3)
    assert [id(p) for p in model.parameters()] == parameters
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    assert set(report.converted) == {f"layers.{i}.{kind}" for i in range(3) for kind in ("up", "down")}
    assert report.kept == {"lm_head": "keep_bf16 has 'lm_head'"}
    printed = capsys.readouterr().out
    assert "6 linear layers under recipe 'ufp4'" in printed and "lm_head: keep_bf16 has 'lm_head'" in printed
    assert [layer.number for layer in (model.layers[0].up, model.layers[0].down, model.layers[2].down)] == [0, 1, 5]
    assert type(model.lm_head) is nn.Linear


def test_revert_gives_the_model_back():
    model, x = net(), normal(2, 16, WIDTH)
    before = gradients(model, x)
    ufp4.convert(model, "ufp4", quiet=True)
    assert not same(gradients(model, x), before)
    assert ufp4.revert(model) == 6
    assert same(gradients(model, x), before)
    assert type(model.layers[0].up) is nn.Linear and not hasattr(model.layers[0].up, "clock")
    with pytest.raises(ufp4.InputError, match="no converted layer"):
        ufp4.revert(model)


def test_a_model_without_memory_is_converted():
    with torch.device("meta"):
        model = Net(2)
    clock = ufp4.convert(model, "ufp4", seed=7, quiet=True).clock
    model.to_empty(device="cpu")
    reference = net(2)
    model.load_state_dict(reference.state_dict())
    ufp4.convert(reference, "ufp4", seed=7, quiet=True)
    x = normal(2, 16, WIDTH)
    assert same(gradients(model, x), gradients(reference, x))
    assert all(layer.clock is clock for layer in clock.layers())


def test_copies_share_the_clock_and_pickles_hold_it(model):
    model, clock = model
    clock.set(5, 64)
    x = normal(2, 16, WIDTH)
    expected = gradients(model, x)
    twin = copy.deepcopy(model)
    assert twin.layers[0].up.clock is clock
    read = pickle.loads(pickle.dumps(model))
    assert read.layers[0].up.clock is read.layers[2].down.clock
    assert read.layers[0].up.clock is not clock and read.layers[0].up.clock.step == 5
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    for other in (twin, read, saved):
        assert same(gradients(other, x), expected)


def test_a_state_dict_goes_into_a_plain_model(model):
    plain = net(3, seed=1)
    plain.load_state_dict(model[0].state_dict())
    assert torch.equal(plain.layers[1].up.weight, model[0].layers[1].up.weight)


def test_what_stays_is_told():
    class Own(nn.Linear):
        pass

    model = nn.ModuleDict({"embedding": nn.Embedding(WIDTH, WIDTH), "tied": nn.Linear(WIDTH, WIDTH, bias=False),
                           "own": Own(WIDTH, WIDTH), "a": nn.Linear(WIDTH, WIDTH), "router": nn.Linear(WIDTH, 4)})
    model["tied"].weight = model["embedding"].weight
    report = ufp4.convert(model, quiet=True)
    assert list(report.converted) == ["a"]
    assert "shares the weight of the embedding 'embedding'" in report.kept["tied"]
    assert "Own is a kind of its own" in report.kept["own"] and "'router'" in report.kept["router"]


def test_the_recipe_keeps_layers_too():
    model = net(2)
    report = ufp4.convert(model, {"base": "ufp4", "keep_bf16": ["layers.0.*"]}, quiet=True)
    assert set(report.converted) == {"layers.1.up", "layers.1.down"}


def test_a_delayed_amax_is_told():
    report = ufp4.convert(net(1), "ufp4_p2", quiet=True)
    assert report.recipe.delayed == ("fprop.x", "fprop.w", "dgrad.dy", "dgrad.w", "wgrad.dy", "wgrad.x")
    assert "note: amax = delayed of fprop.x, fprop.w, dgrad.dy, dgrad.w, wgrad.dy, wgrad.x is taken as exact" in str(report)
    model, exact = net(1), net(1)
    ufp4.convert(model, "ufp4_p2", seed=7, quiet=True)
    report = ufp4.convert(exact, "ufp4_p2; *.*.amax = exact", seed=7, quiet=True)
    assert report.notes == [] and "note" not in str(report)
    x = normal(2, 16, WIDTH)
    assert same(gradients(model, x), gradients(exact, x))


def test_a_module_that_goes_around_its_layers_is_told():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0, batch_first=True), 2, enable_nested_tensor=False).eval()
    x = normal(2, 16, WIDTH)
    with torch.no_grad():
        plain = model(x)
        report = ufp4.convert(model, quiet=True)
        assert set(report.converted) == {f"layers.{i}.linear{j}" for i in range(2) for j in (1, 2)}
        assert report.notes[0].startswith("layers.*: without gradients torch.nn.TransformerEncoderLayer multiplies by its weights itself")
        assert torch.equal(model(x), plain)  # what the note is about
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            assert not torch.allclose(model(x), plain, atol=1e-3)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)


def quantized_model():
    return torch.ao.nn.quantized.Linear(WIDTH, WIDTH)


@pytest.mark.parametrize("make, arguments, message", [
    (net, dict(recipe="upf4"), "unknown recipe 'upf4' .did you mean 'ufp4'.*there are bf16"),
    (net, dict(keep_bf16=["lm_heat"]), "pattern 'lm_heat' matches no linear layer .did you mean 'lm_head'.*layers.\\*.up"),
    (net, dict(keep_bf16="lm_head"), "is the text 'lm_head', expected a list"),
    (net, dict(keep_bf16=["*"]), "nothing to convert: .*keep_bf16 has '\\*'"),
    (net, dict(weights="never"), "weights is 'never', expected one of 'forward', 'pass', 'step'"),
    (net, dict(data_parallel=(2, 2)), "data-parallel rank 2 of 2, expected 0 to 1"),
    (lambda: net().half(), {}, "layers.0.up: the weight is torch.float16, expected torch.bfloat16"),
    (lambda: net().double(), {}, "layers.0.up: the weight is torch.float64, of another type"),
    (lambda: nn.ReLU(), {}, "the model has no torch.nn.Linear"),
    (quantized_model, {}, "is quantized already"),
    (lambda: 3, {}, "takes a torch.nn.Module, not int"),
])
def test_errors_name_what_is_wrong(make, arguments, message):
    with pytest.raises(ufp4.InputError, match=message):
        ufp4.convert(make(), quiet=True, **arguments)


def test_a_refused_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH).half())
    with pytest.raises(ufp4.InputError, match="layer 1: the weight is torch.float16"):
        ufp4.convert(model, quiet=True)
    assert type(model[0]) is nn.Linear


def test_twice_is_refused(model):
    with pytest.raises(ufp4.InputError, match="layer 'layers.0.up' is converted already, to recipe 'ufp4'"):
        ufp4.convert(model[0], "nvfp4", quiet=True)
