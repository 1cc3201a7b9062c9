"""What a converted model does on several gloo processes; test_distributed.py starts it:

    python -m torch.distributed.run --nproc-per-node 2 distributed_checks.py LIBRARY FOLDER

Prints "ok NAME" for each check that holds; the first that does not ends it.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import ufp4
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from ufp4 import library

from package_models import WIDTH, Net, net, normal

CHECKS = {}
X = normal(8, 16, WIDTH)
SEED = 7


def check(*sizes):
    """For these numbers of processes."""
    def register(function):
        CHECKS[function.__name__] = function, sizes
        return function
    return register


def converted(data_parallel=None, recipe="ufp4", **arguments):
    model = net(2)
    clock = ufp4.convert(model, recipe, seed=SEED, data_parallel=data_parallel, quiet=True, **arguments).clock
    clock.set(3)
    return model


def sharded(model, mesh, **policy):
    for block in model.layers:
        fully_shard(block, mesh=mesh, mp_policy=MixedPrecisionPolicy(**policy))
    fully_shard(model, mesh=mesh, mp_policy=MixedPrecisionPolicy(**policy))
    return model


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def mine(x=X):
    part = x.shape[0] // dist.get_world_size()
    return x[part * dist.get_rank():part * (dist.get_rank() + 1)]


def step(model, x):
    """The result, and the whole gradients by name."""
    model.zero_grad()
    y = model(x)
    y.float().square().mean().backward()
    return whole(y).detach(), {name.replace("_checkpoint_wrapped_module.", "").replace("_orig_mod.", ""): whole(p.grad).clone()
                               for name, p in model.named_parameters()}


def close(found, expected, tolerance=1e-4):
    for name, gradient in expected.items():
        difference = (found[name] - gradient).norm() / gradient.norm()
        assert difference <= tolerance, f"{name}: {difference}"


def mesh_of_all():
    return init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("dp",))


@check(2, 4)
def data_parallel_rows_have_the_bits_of_the_whole_batch():
    mesh = mesh_of_all()
    # Every operand draws, and the loss is a sum over the rows: results and gradients of x are equal to the bit.
    for weights in ("forward", "pass", "step"):
        found = []
        for model, x in ((converted(None, "ufp4; *.*.rounding = sr"), X),
                         (sharded(converted(mesh, "ufp4; *.*.rounding = sr", weights=weights), mesh), mine())):
            x = x.clone().requires_grad_()
            y = model(x)
            y.float().square().sum().backward()
            found.append((y.detach(), x.grad, {name: whole(p.grad) for name, p in model.named_parameters()}))
        (y, dx, gradients), (own_y, own_dx, own_gradients) = found
        assert torch.equal(own_y, mine(y)) and torch.equal(own_dx, mine(dx))
        close({name: gradient * mesh.size() for name, gradient in own_gradients.items()}, gradients)


@check(2)
def distributed_data_parallel():
    expected, gradients = step(converted(), X)
    y, found = step(torch.nn.parallel.DistributedDataParallel(converted(mesh_of_all())), mine())
    assert torch.equal(y, mine(expected))
    close({name.removeprefix("module."): gradient for name, gradient in found.items()}, gradients)


@check(4)
def several_meshes():
    expected, gradients = step(converted(), X)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    y, found = step(sharded(converted(mesh), mesh), mine())
    assert torch.equal(y, mine(expected))
    close(found, gradients)


@check(2)
def without_memory_until_sharded():
    mesh = mesh_of_all()
    with torch.device("meta"):
        model = Net(2)
    ufp4.convert(model, "ufp4", seed=SEED, data_parallel=mesh, quiet=True).clock.set(3)
    sharded(model, mesh).to_empty(device="cpu")
    state = net(2).state_dict()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.distributed.tensor.distribute_tensor(state[name], mesh, parameter.placements))
    assert torch.equal(step(model, mine())[0], mine(step(converted(), X)[0]))


@check(2)
def bf16_parameters():
    mesh = mesh_of_all()
    model = sharded(converted(mesh), mesh, param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    y, found = step(model, mine().bfloat16())
    reference = converted().bfloat16()
    expected, gradients = step(reference, X.bfloat16())
    assert y.dtype == torch.bfloat16 and torch.equal(y, mine(expected))
    close(found, gradients, 3e-2)


@check(2)
def compiled_and_checkpointed_blocks():
    mesh = mesh_of_all()
    expected, gradients = step(sharded(converted(mesh), mesh), mine())
    for checkpointed in (False, True):
        model = converted(mesh, weights="pass")
        for i, block in enumerate(model.layers):
            inner = checkpoint_wrapper(block) if checkpointed else block
            model.layers[i] = torch.compile(inner, fullgraph=True, backend="aot_eager")
        y, found = step(sharded(model, mesh), mine())
        assert torch.equal(y, expected)
        close(found, gradients, 0)


@check(2)
def steps_of_an_optimizer_move_the_clock():
    mesh = mesh_of_all()
    model = sharded(converted(mesh), mesh)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(2):
        step(model, mine())
        optimizer.step()
    assert model.layers[0].up.clock.step == 5


def tensor_parallel(model, mesh):
    for block in model.layers:
        parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return model


@check(2)
def tensor_parallel_columns_and_rows():
    mesh = mesh_of_all()
    # Two layers, cut between them: the parts have the bits of the whole, and sums of two BF16 parts are near it.
    def pair():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(WIDTH, 2 * WIDTH), torch.nn.SiLU(), torch.nn.Linear(2 * WIDTH, WIDTH))
        ufp4.convert(model, seed=SEED, quiet=True).clock.set(3)
        return model

    def run(model):
        x = X.bfloat16().requires_grad_()
        y = model(x)
        whole(y).backward(normal(8, 16, WIDTH, seed=5, dtype=torch.bfloat16))
        return y.detach(), x.grad, {name: whole(p.grad) for name, p in model.named_parameters()}

    y, dx, gradients = run(pair())
    found_y, found_dx, found = run(parallelize_module(pair(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()}))
    close({"y": whole(found_y), "dx": found_dx}, {"y": y, "dx": dx}, 1e-2)
    close(found, gradients, 0)
    # A model: a last bit of y now and then moves a 4-bit code of a later layer.
    expected, gradients = step(converted(), X)
    y, found = step(tensor_parallel(converted(), mesh), X)
    close({"y": y}, {"y": expected}, 2e-2)
    close(found, gradients, 0.15)


@check(2)
def compiled_tensor_parallel():
    mesh = mesh_of_all()
    expected, gradients = step(tensor_parallel(converted(), mesh), X)
    model = tensor_parallel(converted(), mesh)
    for i, block in enumerate(model.layers):
        model.layers[i] = torch.compile(block, fullgraph=True, backend="aot_eager")
    y, found = step(model, X)
    assert torch.equal(y, expected)
    close(found, gradients, 0)


@check(4)
def sharded_data_and_tensors():
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    _, gradients = step(tensor_parallel(converted(mesh["dp"]), mesh["tp"]), X[4 * mesh["dp"].get_local_rank():][:4])
    for gradient in gradients.values():
        dist.all_reduce(gradient, op=dist.ReduceOp.SUM, group=mesh["dp"].get_group())
        gradient /= 2
    model = sharded(tensor_parallel(converted(mesh["dp"]), mesh["tp"]), mesh["dp"])
    _, found = step(model, X[4 * mesh["dp"].get_local_rank():][:4])
    close(found, gradients)


def refused(message, run):
    try:
        run()
    except ufp4.InputError as error:
        assert message in str(error), error
    else:
        raise AssertionError(f"nothing was refused: {message}")


@check(2)
def what_cannot_be_cut_is_refused():
    mesh = mesh_of_all()
    odd = torch.nn.Sequential(torch.nn.Linear(WIDTH, 40))
    ufp4.convert(odd, quiet=True)
    parallelize_module(odd, mesh, {"0": ColwiseParallel()})
    refused("layer 0: 40 outputs in 2 parts are no whole blocks of 16 in each, which recipe 'ufp4' needs: take a multiple of 32", lambda: odd(X))
    cut = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH))
    ufp4.convert(cut, quiet=True)
    parallelize_module(cut, mesh, {"0": ColwiseParallel()})
    refused("the weight is a DTensor and x is not", lambda: cut[0].forward(X))
    rows = DTensor.from_local(X, mesh, [Shard(0)])
    refused("expected x whole with a weight cut by rows", lambda: cut[0].forward(rows))


@check(2)
def a_checkpoint_is_written():
    mesh = mesh_of_all()
    model = sharded(converted(mesh), mesh)
    dcp.save({"model": get_model_state_dict(model)}, checkpoint_id=FOLDER / "checkpoint")


@check(2, 4)
def a_checkpoint_is_read_under_another_sharding():
    mesh = mesh_of_all()
    models = [sharded(converted(mesh), mesh)]
    if mesh.size() == 2:
        models.append(tensor_parallel(converted(), mesh))
    expected = net(2).state_dict()
    for model in models:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        state = {"model": get_model_state_dict(model)}
        dcp.load(state, checkpoint_id=FOLDER / "checkpoint")
        set_model_state_dict(model, state["model"])
        for name, value in model.state_dict().items():
            assert torch.equal(whole(value), expected[name]), name


if __name__ == "__main__":
    library.use(sys.argv[1])
    FOLDER = Path(sys.argv[2])
    dist.init_process_group("gloo")
    for name, (function, sizes) in CHECKS.items():
        if dist.get_world_size() in sizes:
            torch._dynamo.reset()
            function()
            dist.barrier()
            if dist.get_rank() == 0:
                print("ok", name, flush=True)
    dist.destroy_process_group()
