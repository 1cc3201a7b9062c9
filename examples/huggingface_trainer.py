"""A small Llama pretrained with transformers.Trainer on the bytes of a text, in 4 bits: one line more than without.

    python examples/huggingface_trainer.py [TEXT] [STEPS]
"""

import sys
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import ufp4

CONTEXT = 64
text = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "LICENSE"
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 200

tokens = torch.tensor(list(text.read_bytes())).unfold(0, CONTEXT, CONTEXT // 2)
data = [{"input_ids": row, "labels": row} for row in tokens]  # the model moves the labels by one

torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=256, hidden_size=128, intermediate_size=384, num_hidden_layers=2,
                                     num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT))
ufp4.convert(model, "ufp4", keep_bf16=["lm_head"])

with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(model, TrainingArguments(
        output_dir=folder, max_steps=steps, per_device_train_batch_size=16, learning_rate=1e-3, bf16=True,
        logging_steps=10, save_strategy="no", report_to="none", disable_tqdm=True,
        use_cpu=not torch.cuda.is_available()), train_dataset=data)
    trainer.train()
for entry in trainer.state.log_history:
    if "loss" in entry:
        print(f"step {entry['step']} loss {float(entry['loss']):.4f}")
