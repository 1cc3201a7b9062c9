"""A small Llama pretrained with accelerate on the bytes of a text, in 4 bits, on one process or many.

    python examples/accelerate_loop.py [TEXT] [STEPS]
    accelerate launch --num_processes 8 examples/accelerate_loop.py
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

import ufp4

CONTEXT, BATCH, MICRO_BATCHES = 64, 8, 2
text = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "LICENSE"
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 200

accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="bf16",
                          gradient_accumulation_steps=MICRO_BATCHES)
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=256, hidden_size=128, intermediate_size=384, num_hidden_layers=2,
                                     num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT))
# Before prepare(). Each process has its part of the rows of a batch, and draws the random bits of that part.
clock = ufp4.convert(model, "ufp4", keep_bf16=["lm_head"], quiet=not accelerator.is_main_process,
                     data_parallel=(accelerator.process_index, accelerator.num_processes)).clock

tokens = torch.tensor(list(text.read_bytes())).unfold(0, CONTEXT, CONTEXT // 2)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loader = DataLoader(tokens, batch_size=BATCH, shuffle=True, drop_last=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

step, epoch = 0, 0
while step < steps:
    loader.set_epoch(epoch)
    for rows in loader:
        with accelerator.accumulate(model):
            loss = model(input_ids=rows, labels=rows).loss
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        if not accelerator.sync_gradients:
            clock.advance(tokens=rows.numel() * accelerator.num_processes)  # the next micro-batch of the same step
            continue
        if step % 10 == 0:
            accelerator.print(f"step {step} loss {accelerator.reduce(loss.detach(), 'mean').item():.4f}", flush=True)
        step += 1
        if step == steps:
            break
    epoch += 1
accelerator.end_training()
