"""ufp4.nn.Linear and the operator under it."""

import pytest
import torch
import ufp4
from torch.nn import functional

from package_models import WIDTH, gradients, net, normal, same

RECIPE = "*.*.format = e1m2; *.hadamard = 16; *.dy.rounding = sr"


def layer(out=48, bias=False, dtype=torch.float32, **arguments):
    torch.manual_seed(0)
    return ufp4.nn.Linear(WIDTH, out, bias=bias, dtype=dtype, **arguments)


def passes(module, x, dy_seed=1):
    """y, dx, dw of one pass."""
    module.zero_grad()
    x = x.detach().requires_grad_()
    y = module(x)
    y.backward(normal(*y.shape, seed=dy_seed, dtype=y.dtype))
    return [y.detach(), x.grad, module.weight.grad.clone()]


@pytest.mark.parametrize("recipe", ["ufp4", "ufp4_p2", "nvfp4", "hif4", "e2m1", "bf16"])
def test_the_ways_to_quantize_the_weight_have_the_same_bits(recipe):
    x = normal(3, 24, WIDTH)
    expected = passes(layer(recipe=recipe), x)
    for arguments in dict(weights="pass"), dict(weights="step"), dict(stash=False):
        assert same(passes(layer(recipe=recipe, **arguments), x), expected), arguments


def test_the_weight_is_quantized_once_a_step(monkeypatch):
    module = layer(weights="step")
    x = normal(16, WIDTH)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    counted = count_operators(lambda: [passes(module, x) for _ in range(4)])
    assert "ufp4.quantize_weight.default" not in counted and counted["ufp4.linear_forward.default"] == 4
    passes(module, x)
    counted = count_operators(optimizer.step)
    assert counted["ufp4.quantize_weight.default"] == 1
    twin = layer()
    twin.load_state_dict(module.state_dict())
    twin.clock.set(1)
    assert same(passes(module, x), passes(twin, x))


def test_micro_batches_share_the_weight_of_their_step():
    module, x = layer(weights="step"), normal(16, WIDTH)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)

    def step():
        for i in range(4):
            module.clock.set(module.clock.step, first_token=16 * i)
            module(x).square().sum().backward()
        optimizer.step()

    for number in (1, 2, 3):
        counted = count_operators(step)
        assert module.clock.step == number and counted["ufp4.linear_forward.default"] == 4
        assert counted["ufp4.quantize_weight.default"] == 1, "the optimizer's, for the next step"


def test_a_weight_that_changed_within_a_step_is_quantized_again():
    module, twin, x = layer(weights="step"), layer(), normal(16, WIDTH)
    with torch.no_grad():
        for one in (module, twin):
            one.weight.mul_(1.5)
    assert count_operators(lambda: module.clock.advance(tokens=16))["ufp4.quantize_weight.default"] == 1
    assert "ufp4.quantize_weight.default" not in count_operators(lambda: module.clock.advance(tokens=16))
    twin.clock.set(0, 32)
    assert same(passes(module, x), passes(twin, x))
    for one in (module, twin):
        one.weight.data.mul_(1.5)  # which autograd does not count
    module.refresh_weight()
    assert same(passes(module, x), passes(twin, x))


def test_a_weight_that_moved_is_quantized_at_once():
    module, twin, x = layer(weights="step"), layer(), normal(16, WIDTH)
    for one in (module, twin):
        one.bfloat16()
    assert count_operators(lambda: passes(module, x)).get("ufp4.quantize_weight.default", 0) == 0
    assert same(passes(module, x), passes(twin, x))
    module.half()
    with pytest.raises(ufp4.InputError, match="layer linear: the weight is torch.float16"):
        module(x)


def test_a_weight_that_changed_is_never_the_old_one():
    module, twin = layer(weights="step"), layer()
    x = normal(16, WIDTH)
    with torch.no_grad():
        for one in (module, twin):
            one.weight.mul_(1.5)
    assert same(passes(module, x), passes(twin, x))
    module.load_state_dict({"weight": normal(48, WIDTH)})
    twin.load_state_dict({"weight": normal(48, WIDTH)})
    assert same(passes(module, x), passes(twin, x))


def count_operators(run):
    from collections import Counter

    from torch.utils._python_dispatch import TorchDispatchMode

    counted = Counter()

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            counted[str(function)] += 1
            return function(*args, **(kwargs or {}))

    with Count():
        run()
    return counted


def test_one_call_quantizes_the_weight_once():
    counted = count_operators(lambda: passes(layer(), normal(16, WIDTH)))
    assert counted["ufp4.quantize_weight.default"] == 1
    assert counted["ufp4.linear_forward.default"] == 1 and counted["ufp4.linear_backward.default"] == 1


def test_any_shape_and_strides():
    module = layer(bias=True)
    x = normal(2, 8, 4, WIDTH)
    y, dx, dw = passes(module, x)
    rows = passes(module, x.reshape(-1, WIDTH))
    assert y.shape == (2, 8, 4, 48) and dx.shape == x.shape
    assert torch.equal(y.reshape(-1, 48), rows[0])
    one = passes(module, normal(WIDTH))
    assert one[0].shape == (48,) and one[1].shape == (WIDTH,)
    # A transposed view, every second row, and one row for all.
    wide = normal(WIDTH, 64).t()
    for view in (wide, normal(64, WIDTH)[::2], normal(1, WIDTH).expand(32, WIDTH), normal(4, 16, WIDTH).transpose(0, 1)):
        assert same(passes(module, view), passes(module, view.contiguous()))


def test_a_broadcast_gradient_is_that_of_its_copy():
    module, x = layer(), normal(32, WIDTH, dtype=torch.bfloat16).requires_grad_()
    module(x).sum(0).float().square().sum().backward()
    summed, x.grad = (x.grad, module.weight.grad), None
    module.zero_grad()
    y = module(x)
    gradient = (2 * y.detach().sum(0).float()).bfloat16().expand(32, 48).contiguous()
    y.backward(gradient)
    assert summed[0].isfinite().all() and same(summed, (x.grad, module.weight.grad))


def test_an_empty_batch_gives_zeros():
    for shape in ((0, WIDTH), (2, 0, WIDTH)):
        y, dx, dw = passes(layer(), torch.zeros(shape))
        assert y.shape == (*shape[:-1], 48) and dx.shape == shape and dw.abs().max() == 0


def test_sides_that_no_block_divides_are_padded():
    module = ufp4.nn.Linear(37, 21, bias=False)
    x = normal(19, 37)
    y, dx, dw = passes(module, x)
    expected = functional.linear(x, module.weight)
    assert (y - expected).norm() < 0.2 * expected.norm() and dx.shape == x.shape and dw.shape == (21, 37)


def test_frozen_weights_and_inputs_without_gradient():
    module, x = layer(), normal(16, WIDTH)
    full = passes(module, x)
    module.zero_grad()
    y = module(x)
    y.backward(normal(*y.shape, seed=1))
    assert torch.equal(module.weight.grad, full[2])
    module.weight.requires_grad_(False)
    module.zero_grad()
    x.requires_grad_()
    y = module(x)
    y.backward(normal(*y.shape, seed=1))
    assert torch.equal(x.grad, full[1]) and module.weight.grad is None
    with torch.no_grad():
        assert torch.equal(module(x), full[0])
    with torch.inference_mode():
        assert torch.equal(module(x), full[0])


def test_autocast_gives_its_type():
    module, plain = layer(bias=True), torch.nn.Linear(WIDTH, 48)
    x = normal(16, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        y, expected = module(x), plain(x)
    assert y.dtype == expected.dtype == torch.bfloat16
    assert module(x).dtype == torch.float32 and module(x.bfloat16()).dtype == torch.bfloat16
    y.float().sum().backward()
    assert module.weight.grad.dtype == torch.float32


def test_micro_batches_add_up(model):
    model, clock = model
    x = normal(4, 16, WIDTH)
    model.zero_grad()
    for i in range(2):
        clock.set(0, first_token=32 * i)
        model(x[2 * i:2 * i + 2]).float().square().sum().backward()
    clock.set(0)
    halves = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(x).float().square().sum().backward()
    for a, b in zip(halves, (p.grad for p in model.parameters()), strict=True):
        assert (a - b).abs().max() <= 2e-2 * b.abs().max()


def test_a_second_derivative_is_refused():
    x = normal(16, WIDTH).requires_grad_()
    gradient, = torch.autograd.grad(layer()(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="a gradient of its gradient was asked for"):
        gradient.square().sum().backward()


def test_forward_mode_and_vmap_are_refused():
    module, x = layer(), normal(16, WIDTH)
    import torch.autograd.forward_ad as forward

    with forward.dual_level(), pytest.raises(ufp4.InputError, match="no forward-mode derivative"):
        module(forward.make_dual(x, x))
    with torch.no_grad(), pytest.raises(ufp4.InputError, match="no rule for vmap"):
        torch.func.vmap(module)(x)


@pytest.mark.parametrize("x, message", [
    (torch.zeros(4, WIDTH, dtype=torch.float16), "layer linear: x is torch.float16, expected .*FP16 lacks the range"),
    (torch.zeros(4, WIDTH, dtype=torch.int32), "x is torch.int32"),
    (torch.zeros(4, WIDTH, device="meta"), "x is on meta, the weight on cpu"),
    (torch.zeros(4, 32), r"x has shape \[4, 32\], expected \[.., 64\]"),
])
def test_errors_name_the_layer(x, message):
    with pytest.raises(ufp4.InputError, match=message):
        layer()(x)


def test_a_build_for_the_cpu_says_so_on_a_gpu(monkeypatch):
    """With a tensor that only says that it is on a GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    module = layer(out=WIDTH)
    monkeypatch.setattr(module, "_cuda", False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        module.weight = torch.nn.Parameter(torch.empty(WIDTH, WIDTH, device="cuda"))
        with pytest.raises(ufp4.InputError, match="layer linear: x is on cuda:0, and ufp4 was built without CUDA: install it where nvcc is"):
            module(torch.empty(4, WIDTH, device="cuda"))


def test_the_operator_passes_torchs_checks(library):
    ops = torch.ops.ufp4
    x, weight = normal(24, WIDTH).requires_grad_(), normal(48, WIDTH, seed=1).requires_grad_()
    number = torch.tensor([3], dtype=torch.int32)
    torch.library.opcheck(ops.linear.default, (x, weight, RECIPE), dict(step_tensor=number, layer_tensor=number, token_tensor=number))
    torch.library.opcheck(ops.linear.default, (x.detach().bfloat16(), weight, RECIPE), dict(step=1, layer=1, keep_weight=False, stash=False))
    call = (RECIPE, ops.linear_products(weight, RECIPE), [7, 2, 3, 0, 0, 0], number, number, None)
    rows, matrix = x.detach().bfloat16(), weight.detach()
    made = ops.quantize_weight(matrix, *call)
    torch.library.opcheck(ops.quantize_weight.default, (matrix, *call))
    forward = (rows, matrix, made[0], made[1], True, *call)
    torch.library.opcheck(ops.linear_forward.default, forward)
    _, codes, scales, outer = ops.linear_forward(*forward)
    torch.library.opcheck(ops.linear_backward.default, (normal(24, 48).bfloat16(), torch.empty(0), codes, scales, outer, matrix, made[2], made[3], True, True, *call))


def test_parts_of_a_layer_have_the_bits_of_the_whole():
    """What tensor parallel does: offsets place a part in the whole layer."""
    x, weight, dy = normal(32, WIDTH, dtype=torch.bfloat16), normal(64, WIDTH, seed=1), normal(32, 64, seed=2, dtype=torch.bfloat16)
    recipe = "*.*.format = e1m2; *.*.rounding = sr; *.hadamard = 16"

    def run(x, weight, dy, **offsets):
        x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = torch.ops.ufp4.linear(x, weight, recipe, seed=7, step=3, layer=2, token_offset=5, **offsets)
        y.backward(dy)
        return y.detach(), x.grad, weight.grad

    y, dx, dw = run(x, weight, dy)
    for i in range(2):
        half = slice(32 * i, 32 * i + 32)
        part = run(x, weight[half], dy[:, half], out_offset=32 * i)
        assert torch.equal(part[0], y[:, half]) and torch.equal(part[2], dw[half])
        part = run(x[:, half], weight[:, half], dy, in_offset=32 * i)
        assert torch.equal(part[1], dx[:, half]) and torch.equal(part[2], dw[:, half])


@pytest.mark.parametrize("arguments, message", [
    (dict(layer=0), "rounds dgrad.dy stochastically, and no step was given"),
    (dict(step=0), "rounds dgrad.dy stochastically, and no layer was given"),
    (dict(step=-1, layer=0), "step is -1"),
    (dict(step=0, layer=2**31), "layer is 2147483648"),
    (dict(layer=0, step_tensor=torch.zeros(1)), "step_tensor is Float with 1 elements, expected Int"),
    (dict(layer=0, step_tensor=torch.zeros(1, dtype=torch.int32, device="meta")), "step_tensor is on meta, expected cpu"),
    (dict(layer=0, step=0, product="int3"), "product 'int3' is neither"),
    (dict(layer=0, step=0, prepared=[torch.zeros(1)]), "prepared has 1 tensors, expected the 4"),
])
def test_the_operators_errors(arguments, message):
    x, weight = normal(16, WIDTH).requires_grad_(), normal(32, WIDTH)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.ufp4.linear(x, weight, RECIPE, **arguments)


def test_nothing_needs_a_step_where_nothing_is_drawn():
    x, weight = normal(16, WIDTH).requires_grad_(), normal(32, WIDTH)
    torch.ops.ufp4.linear(x, weight, "*.*.format = e1m2")
    with torch.no_grad():
        torch.ops.ufp4.linear(x, weight, RECIPE)


def test_a_model_trains():
    from package_models import train

    model = net(2)
    ufp4.convert(model, "ufp4", quiet=True)
    x = normal(4, 16, WIDTH)
    losses = train(model, [x] * 20, lr=1e-2)
    assert losses[-1] < 0.5 * losses[0]
    assert len(gradients(model, x)) == 1 + len(list(model.parameters()))
