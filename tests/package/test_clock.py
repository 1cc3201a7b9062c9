"""The clock: what random bits follow from, and when it may move."""

import warnings

import pytest
import torch
import ufp4
from torch.utils.checkpoint import checkpoint

from package_models import WIDTH, gradients, net, normal, same


def test_bits_follow_from_the_step_and_the_token(model):
    model, clock = model
    x = normal(2, 16, WIDTH)
    first = gradients(model, x)
    assert same(gradients(model, x), first)
    clock.advance()
    second = gradients(model, x)
    assert clock.step == 1 and torch.equal(second[0], first[0]) and not same(second, first)
    clock.advance(tokens=32)
    assert (clock.step, clock.first_token) == (1, 32) and not same(gradients(model, x), second)
    clock.advance()
    assert (clock.step, clock.first_token) == (2, 0)
    clock.set(0)
    assert same(gradients(model, x), first)


def test_it_follows_the_optimizer():
    model, other = net(1), torch.nn.Linear(4, 4)
    clock = ufp4.convert(model, quiet=True).clock
    first, second = torch.optim.SGD(model.parameters()), torch.optim.SGD(model.parameters())
    torch.optim.SGD(other.parameters()).step()
    assert clock.step == 0
    first.step()
    second.step()
    first.step()
    assert clock.step == 2
    still = ufp4.Clock(5, follow_optimizer=False)
    ufp4.revert(model)
    ufp4.convert(model, clock=still, quiet=True)
    first.step()
    assert still.step == 5


def test_a_resumed_run_has_the_same_bits(tmp_path):
    def start(step=0):
        model = net(2)
        clock = ufp4.convert(model, seed=7, quiet=True).clock
        clock.set(step)
        return model, torch.optim.AdamW(model.parameters(), 1e-3)

    def steps(model, optimizer, numbers):
        for number in numbers:
            optimizer.zero_grad()
            model(normal(2, 16, WIDTH, seed=number)).float().square().mean().backward()
            optimizer.step()

    model, optimizer = start()
    steps(model, optimizer, range(3))
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3}, tmp_path / "checkpoint.pt")
    steps(model, optimizer, range(3, 6))
    saved = torch.load(tmp_path / "checkpoint.pt")
    resumed, its_optimizer = start(saved["step"])
    resumed.load_state_dict(saved["model"])
    its_optimizer.load_state_dict(saved["optimizer"])
    steps(resumed, its_optimizer, range(3, 6))
    assert same(list(model.parameters()), list(resumed.parameters()))


def test_it_refuses_to_move_under_a_pending_backward_pass(model):
    model, clock = model
    x = normal(2, 16, WIDTH)
    y = model(x)
    assert clock.pending() == 6
    for move in (clock.advance, lambda: clock.set(3), lambda: clock.advance(tokens=32)):
        with pytest.raises(ufp4.InputError, match="6 forward passes wait for their backward pass"):
            move()
    assert clock.step == 0
    clock.set(0)  # where it is
    y.sum().backward()
    clock.advance()
    model(x)  # nobody keeps the result
    clock.advance()
    with torch.no_grad():
        kept = model(x)
    clock.advance()
    assert clock.step == 3 and kept is not None


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_clock_that_moved_under_checkpointing_is_told(model, reentrant):
    model, clock = model
    x = normal(2, 16, WIDTH).requires_grad_()
    y = checkpoint(model, x, use_reentrant=reentrant)
    clock._move(1, 0)  # as an optimizer's step does
    with pytest.raises((RuntimeError, ufp4.InputError), match="the clock moved between a forward pass and its repetition"):
        y.sum().backward()


def test_a_clock_that_moved_under_compiled_code_is_told(model):
    model, clock = model
    y = torch.compile(model, backend="aot_eager", fullgraph=True)(normal(2, 16, WIDTH))
    clock._move(1, 0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("call, message", [
    (lambda: ufp4.Clock(-1), "step of the clock is -1"),
    (lambda: ufp4.Clock().set(2**31), "step of the clock is 2147483648"),
    (lambda: ufp4.Clock().set(1.0), "step of the clock is 1.0, expected a whole number"),
    (lambda: ufp4.Clock().advance(tokens=-1), "tokens of the clock is -1"),
    (lambda: ufp4.Clock().data_parallel(3, 2), "rank 3 of 2"),
])
def test_errors(call, message):
    with pytest.raises(ufp4.InputError, match=message):
        call()


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_bits_do_not_depend_on_the_number_of_processes(ranks):
    """The same global batch in parts: the results of all rows, and gradients that add up to the whole's."""
    x = normal(8, 16, WIDTH, dtype=torch.bfloat16)
    dy = normal(8, 16, 48, seed=1, dtype=torch.bfloat16)
    recipe = "*.*.format = e1m2; *.*.rounding = sr"

    def run(rank, of):
        torch.manual_seed(0)
        layer = ufp4.nn.Linear(WIDTH, 48, bias=False, recipe=recipe, seed=7)
        layer.clock.data_parallel(rank, of)
        part = slice(8 // of * rank, 8 // of * (rank + 1))
        mine = x[part].clone().requires_grad_()
        y = layer(mine)
        y.backward(dy[part])
        return y.detach(), mine.grad, layer.weight.grad

    whole = run(0, 1)
    parts = [run(rank, ranks) for rank in range(ranks)]
    assert torch.equal(torch.cat([p[0] for p in parts]), whole[0])
    assert torch.equal(torch.cat([p[1] for p in parts]), whole[1])
    total = sum(p[2] for p in parts)
    assert (total - whole[2]).abs().max() < 1e-5 * whole[2].abs().max()


def told(run):
    """The warnings about cut blocks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [str(one.message) for one in caught if "blocks of wgrad" in str(one.message)]


def test_micro_batches_that_cut_blocks_are_told_once(model):
    model, clock = model
    x = normal(1, 24, WIDTH)

    def step():
        for i in range(3):
            clock.set(0, first_token=24 * i)
            model(x).square().sum().backward()

    found = told(step)
    assert found == ["layer layers.0.up: a micro-batch begins at token 24 of the batch, no multiple of 16: the blocks of wgrad are cut "
                     "elsewhere than in a batch at once, and its results differ; pad to a multiple of 16"]
    assert told(step) == []


PARTS = ["layer layers.0.up: each of 2 processes has 40 tokens of the batch, no multiple of 16: the blocks of wgrad are cut elsewhere "
         "than in a batch at once, and its results differ; pad to a multiple of 16"]


def test_processes_that_cut_blocks_are_told_once(model):
    model, clock = model
    clock.data_parallel(1, 2)
    assert told(lambda: [model(normal(rows, WIDTH)).sum().backward() for rows in (16, 40, 40)]) == PARTS


def test_compiled_code_tells_of_the_shapes_that_it_is_for(model):
    model, clock = model
    clock.data_parallel(1, 2)
    for block in model.layers:
        block.compile(fullgraph=True, backend="aot_eager")
    assert told(lambda: [model(normal(40, WIDTH)).sum().backward() for _ in range(2)]) == PARTS
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2, "names of layers are none of the code's"


@pytest.mark.parametrize("recipe, rows, first_token", [("ufp4", 24, 0), ("ufp4", 32, 64), ("bf16", 24, 24), ("wgrad.*.format = bf16; dgrad.*.format = e1m2", 24, 24)])
def test_what_cuts_nothing_is_not_told(recipe, rows, first_token):
    model = net(1)
    clock = ufp4.convert(model, recipe, quiet=True).clock

    def run():
        clock.set(0, first_token)
        model(normal(rows, WIDTH)).sum().backward()

    assert told(run) == []
    clock.data_parallel(1, 2)
    with torch.no_grad():
        assert told(lambda: model(normal(24, WIDTH))) == []
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert told(lambda: clock.set(0, 24)) == []
