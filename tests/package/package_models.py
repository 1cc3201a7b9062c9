"""Small models, and what a training step makes of them."""

import torch
from torch import nn
from torch.nn import functional

WIDTH = 64


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.RMSNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        return x + self.down(functional.silu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(blocks))
        self.lm_head = nn.Linear(WIDTH, 32, bias=False)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)


def net(blocks=3, seed=0):
    torch.manual_seed(seed)
    return Net(blocks)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def gradients(model, x, run=None):
    """The result and all gradients of one pass."""
    model.zero_grad()
    y = (model if run is None else run)(x)
    y.float().square().mean().backward()
    return [y.detach(), *(p.grad.clone() for p in model.parameters())]


def same(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def train(model, batches, run=None, lr=1e-3):
    """One step of AdamW a batch; the losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    losses = []
    for x in batches:
        optimizer.zero_grad()
        loss = (model if run is None else run)(x).float().square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
