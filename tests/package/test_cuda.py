"""On a GPU: CUDA graphs, the step as the device sees it, and products on FP8 tensor cores."""

import pytest
import torch
import ufp4
from ufp4 import library as package_library

from package_models import WIDTH, gradients, net, normal, same

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.fixture
def build(library):
    return package_library.load()


def converted(**arguments):
    model = net(3)
    clock = ufp4.convert(model, seed=7, quiet=True, **arguments).clock
    return model.cuda(), clock


@needs_gpu
def test_a_library_without_cuda_says_so(build):
    if build.cuda:
        pytest.skip("this one has CUDA")
    model, _ = converted()
    with pytest.raises(ufp4.InputError, match="layers.0.up: x is on cuda:0, and ufp4 was built without CUDA"):
        model(normal(2, 16, WIDTH).cuda())


@needs_gpu
@pytest.mark.parametrize("recipe", ["ufp4", "ufp4_p2", "nvfp4"])
@pytest.mark.parametrize("weights", ["forward", "pass", "step"])
def test_cuda_graphs_follow_the_step(build, recipe, weights):
    if not build.cuda:
        pytest.skip("this library has no CUDA")
    model, clock = converted(recipe=recipe, weights=weights)
    assert clock.step_tensor.is_cuda and model.layers[0].up.layer_tensor.is_cuda
    x = normal(8, 16, WIDTH).cuda()
    compiled = torch.compile(model, fullgraph=True, mode="reduce-overhead")
    results = {}
    for step in (0, 1, 2, 3, 1, 0):
        clock.set(step)
        torch.compiler.cudagraph_mark_step_begin()
        found = [t.clone() for t in gradients(model, x, compiled)]
        if step in results:
            assert same(found, results[step]), "a replay has the bits of the first run"
        results[step] = found
        clock.set(step)
        for a, b in zip(found, gradients(model, x), strict=True):
            assert (a - b).norm() <= 5e-2 * b.norm()
    assert not same(results[0], results[1])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@needs_gpu
def test_eager_and_compiled_blocks_have_the_same_bits(build):
    if not build.cuda:
        pytest.skip("this library has no CUDA")
    model, clock = converted()
    clock.set(5)
    x = normal(8, 16, WIDTH).cuda()
    expected = gradients(model, x)
    assert same(gradients(model, x, torch.compile(model, fullgraph=True, backend="aot_eager")), expected)


@needs_gpu
def test_products_are_taken_as_the_trainer_takes_them(build):
    if not build.cuda or torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("no FP8 tensor cores, or no CUDA in this library")
    model, _ = converted(recipe="ufp4_p2")
    layer = model.layers[0].up
    assert torch.ops.ufp4.linear_products(layer.weight, layer.recipe.text) == "fp8,fp8,fp8"
    x = normal(8, 16, WIDTH).cuda()
    exact = torch.ops.ufp4.linear(x, layer.weight, layer.recipe.text, seed=7, step=0, layer=0, product="emulated")
    assert (layer(x) - exact).abs().max() <= 1e-2 * exact.abs().max()
