"""A small GPT trained on the bytes of a text, in 4 bits: plain PyTorch, and two lines of ufp4.

    python examples/plain_loop.py [TEXT] [STEPS]
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import ufp4

CONTEXT, WIDTH, HEADS, LAYERS, BATCH = 64, 128, 4, 2, 16


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(self.norm_1(x)).chunk(3, -1))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(256, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256, bias=False)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        return self.head(self.norm(self.blocks(x)))


text = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "LICENSE"
data = torch.frombuffer(bytearray(text.read_bytes()), dtype=torch.uint8).long()
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
model = Gpt().to(device)
ufp4.convert(model, "ufp4", keep_bf16=["head"])  # the clock of random bits moves with the optimizer
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(int(sys.argv[2]) if len(sys.argv) > 2 else 200):
    at = torch.randint(len(data) - CONTEXT - 1, (BATCH,))
    rows = torch.stack([data[i:i + CONTEXT + 1] for i in at]).to(device)
    with torch.autocast(device, torch.bfloat16):
        logits = model(rows[:, :-1])
    loss = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step} loss {loss.item():.4f}", flush=True)
