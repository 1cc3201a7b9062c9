"""torch.compile, activation checkpointing and torch.export."""

import pytest
import torch
import ufp4
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from package_models import WIDTH, gradients, net, normal, same, train


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("weights", ["forward", "pass", "step"])
def test_it_compiles_once_for_12_layers_and_12_steps(weights):
    model, reference = net(12), net(12)
    clock = ufp4.convert(model, seed=7, weights=weights, quiet=True).clock
    ufp4.convert(reference, seed=7, quiet=True)
    batches = [normal(2, 16, WIDTH, seed=i) for i in range(12)]
    losses = train(model, batches, torch.compile(model, fullgraph=True, backend="aot_eager"))
    assert graphs() == 1 and clock.step == 12
    assert losses == train(reference, batches)
    assert same(list(model.parameters()), list(reference.parameters()))


def test_compiled_code_has_the_weights_of_every_optimizer():
    """The first of two moves the clock; the second changes weights after it."""
    results = []
    for weights in ("step", "forward"):
        model = net(2)
        clock = ufp4.convert(model, seed=7, weights=weights, quiet=True).clock
        up = [p for name, p in model.named_parameters() if ".up." in name]
        others = [p for name, p in model.named_parameters() if ".up." not in name]
        optimizers = [torch.optim.SGD(others, 0.1), torch.optim.SGD(up, 0.1)]
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        for step in range(3):
            compiled(normal(2, 16, WIDTH, seed=step)).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        assert clock.step == 3
        results.append(list(model.parameters()))
    assert same(*results)


def test_compiled_blocks_share_their_graphs():
    model = net(12)
    ufp4.convert(model, seed=7, quiet=True)
    for block in model.layers:
        block.compile(fullgraph=True, backend="aot_eager")
    train(model, [normal(2, 16, WIDTH)] * 3)
    assert graphs() <= 2  # the first block's input has no gradient


def test_inductor_follows_the_step():
    model, reference = net(1), net(1)
    clocks = [ufp4.convert(m, seed=7, quiet=True).clock for m in (model, reference)]
    compiled = torch.compile(model, fullgraph=True)
    x = normal(2, 16, WIDTH)
    results = []
    for step in (0, 1, 0):
        for clock in clocks:
            clock.set(step)
        results.append(gradients(model, x, compiled))
        for a, b in zip(results[-1], gradients(reference, x), strict=True):
            assert (a - b).abs().max() <= 2e-2 * b.abs().max()
    assert same(results[0], results[2]) and not same(results[0], results[1]) and graphs() == 1


def test_symbolic_shapes():
    model, reference = net(1), net(1)
    for one in (model, reference):
        ufp4.convert(one, seed=7, data_parallel=(1, 2), quiet=True)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (2, 3, 5):
        x = normal(batch, 16, WIDTH)
        assert same(gradients(model, x, compiled), gradients(reference, x))
    assert graphs() == 1


def save_linears():
    saved = {torch.ops.ufp4.linear_forward.default, torch.ops.ufp4.quantize_weight.default}

    def policy(_context, function, *_args, **_kwargs):
        return CheckpointPolicy.MUST_SAVE if function in saved else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


CHECKPOINTS = {
    "reentrant": dict(use_reentrant=True),
    "other": dict(use_reentrant=False),
    "selective": dict(use_reentrant=False, context_fn=save_linears),
}


def checkpointed(model, arguments):
    def run(x):
        for block in model.layers:
            x = checkpoint(block, x, **arguments)
        return model.lm_head(x)

    return run


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("weights", ["forward", "pass", "step"])
def test_checkpointing_changes_no_bit(kind, weights):
    model = net(2)
    ufp4.convert(model, seed=7, weights=weights, quiet=True).clock.set(3)
    x = normal(2, 16, WIDTH).requires_grad_()
    assert same(gradients(model, x, checkpointed(model, CHECKPOINTS[kind])), gradients(model, x))


@pytest.mark.parametrize("kind", ["other", "selective"])
def test_compiled_checkpointing_changes_no_bit(kind):
    model = net(2)
    ufp4.convert(model, seed=7, quiet=True).clock.set(3)
    x = normal(2, 16, WIDTH).requires_grad_()
    run = torch.compile(checkpointed(model, CHECKPOINTS[kind]), fullgraph=True, backend="aot_eager")
    assert same(gradients(model, x, run), gradients(model, x))


def test_compiled_code_takes_an_empty_batch():
    model = net(1)
    ufp4.convert(model, seed=7, quiet=True)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.zeros(0, 16, WIDTH)
    y = compiled(x)
    y.sum().backward()
    assert y.shape == (0, 16, 32) and all(p.grad.abs().max() == 0 for p in model.parameters())


@pytest.mark.parametrize("weights", ["forward", "step"])
def test_export_of_a_model_in_eval_mode(weights, tmp_path):
    model = net(2)
    ufp4.convert(model, seed=7, weights=weights, quiet=True)
    model.eval()
    x = normal(2, 16, WIDTH)
    with torch.no_grad():
        expected = model(x)
        program = torch.export.export(model, (x,))
        assert torch.equal(program.module()(x), expected)
        torch.export.save(program, tmp_path / "model.pt2")
        assert torch.equal(torch.export.load(tmp_path / "model.pt2").module()(x), expected)
    assert any("ufp4" in str(node.target) for node in program.graph.nodes)
