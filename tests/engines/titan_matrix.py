"""The runs of the tests of ufp4.torchtitan: what each parallelism, schedule and model is tried with."""

from typing import Any

STEPS = 4
BATCH = 4  # rows of a step, whoever has them
SEQUENCE = 64
MODELS = ("llama3", "qwen3", "qwen3_moe", "deepseek_v3")

UFP4 = ["--model.converters", "quantize.linear.ufp4"]
TP = ["--parallelism.tensor_parallel_degree", "2"]
PP = ["--parallelism.pipeline_parallel_degree", "2"]
EP = ["--parallelism.expert_parallel_degree", "2"]
CP = ["--parallelism.context_parallel_degree", "2"]
HSDP = ["--parallelism.data_parallel_replicate_degree", "2"]
DDP = [*HSDP, "--parallelism.data_parallel_shard_degree", "1"]
FULL = ["--activation_checkpoint.mode", "full"]
SELECTIVE = ["--activation_checkpoint.mode", "selective", "--activation_checkpoint.selective_ac_option", "op"]
COMPILE = ["--compile.enable", "--compile.backend", "aot_eager"]
INDUCTOR = ["--compile.enable", "--compile.backend", "inductor"]
SAVED = ["--checkpoint.enable", "--checkpoint.interval", "2", "--checkpoint.no-last-save-model-only"]


def schedule(name: str) -> list[str]:
    return [*PP, "--parallelism.pipeline_parallel_schedule", name]


def run(name: str, model: str, processes: int, rows: int, *more: str, converted: bool = True, steps: int = STEPS, seeded: bool = True,
        **others: Any) -> dict[str, Any]:
    """A run of `rows` rows a process and micro-batch, from the seed checkpoint of the model."""
    arguments = ["--model.name", f"tiny_{model}", "--training.steps", str(steps), "--training.local_batch_size", str(rows),
                 "--training.global_batch_size", str(BATCH), *(UFP4 if converted else []), *more]
    if "--activation_checkpoint.mode" not in arguments:
        arguments += ["--activation_checkpoint.mode", "none"]
    return {"name": name, "processes": processes, "arguments": arguments, **({"seed": f"seed_{model}"} if seeded else {}), **others}


def seed(model: str) -> dict[str, Any]:
    return run(f"seed_{model}", model, 1, BATCH, "--checkpoint.enable", "--checkpoint.create_seed_checkpoint", converted=False, seeded=False)


# What is tried at each change.
CORE = [
    *map(seed, MODELS),
    run("llama3", "llama3", 1, 4),
    run("llama3_bf16", "llama3", 1, 4, converted=False),
    run("llama3_other_seed", "llama3", 1, 4, "--ufp4.seed", "1"),
    run("llama3_foreign_trainer", "llama3", 1, 4, plain=True),
    run("llama3_kept", "llama3", 1, 4, "--ufp4.keep_bf16", "usual,layers.0.*,wo", "--ufp4.recipe", "ufp4; dgrad.hadamard = 0", steps=1),
    run("llama3_no_pattern", "llama3", 1, 4, "--ufp4.keep_bf16", "layers.0.attention.wx", steps=1),
    run("llama3_weights_of_steps", "llama3", 1, 2, "--ufp4.weights", "step"),
    run("llama3_fsdp", "llama3", 2, 2),
    run("llama3_fsdp_accumulated", "llama3", 2, 1),
    run("llama3_fsdp_full", "llama3", 2, 2, *FULL),
    run("llama3_fsdp_selective", "llama3", 2, 2, *SELECTIVE),
    run("llama3_fsdp_compile", "llama3", 2, 2, *COMPILE),
    run("llama3_ddp", "llama3", 2, 2, *DDP),
    run("llama3_tp", "llama3", 2, 4, *TP),
    run("llama3_tp_full", "llama3", 2, 4, *TP, *FULL),
    run("llama3_pp", "llama3", 2, 4, *PP),
    run("llama3_pp_gpipe_full", "llama3", 2, 4, *schedule("GPipe"), *FULL),
    run("llama3_half", "llama3", 2, 2, *SAVED, steps=2, folder="saved"),
    run("llama3_resumed", "llama3", 2, 2, *SAVED, seeded=False, folder="saved"),
    run("llama3_half_of_one", "llama3", 1, 4, *SAVED, steps=2, folder="saved_by_one"),
    run("llama3_resumed_tp", "llama3", 2, 4, *TP, *SAVED, seeded=False, folder="saved_by_one"),
    {"name": "llama3_text", "processes": 2, "arguments": [
        "--job.config_file", "examples/torchtitan.toml", "--model.hf_assets_path", "FOLDER/tokenizer", "--training.dataset_path", "FOLDER/text",
        "--training.steps", "6", "--training.local_batch_size", "2", "--compile.no-enable", "--checkpoint.no-enable"]},
    run("qwen3", "qwen3", 1, 4),
    run("qwen3_fsdp", "qwen3", 2, 2),
    run("qwen3_moe", "qwen3_moe", 1, 4),
    run("qwen3_moe_ep", "qwen3_moe", 2, 2, *EP),
    run("deepseek_v3", "deepseek_v3", 1, 4),
    run("deepseek_v3_fsdp", "deepseek_v3", 2, 2),
    run("deepseek_v3_pp", "deepseek_v3", 2, 4, *PP),
]

# What takes longer: compiled runs, four processes, further schedules.
REST = [
    run("llama3_compile_weights_of_steps", "llama3", 1, 2, "--ufp4.weights", "step", *COMPILE),
    run("llama3_fsdp_compile_selective", "llama3", 2, 2, *COMPILE, *SELECTIVE),
    run("llama3_fsdp_inductor", "llama3", 2, 2, *INDUCTOR),
    run("llama3_tp_compile", "llama3", 2, 4, *TP, *COMPILE),
    run("llama3_tp_selective", "llama3", 2, 4, *TP, *SELECTIVE),
    run("llama3_pp_accumulated", "llama3", 2, 2, *PP),
    run("llama3_pp_compile", "llama3", 2, 4, *PP, *COMPILE),
    run("llama3_pp_compile_full", "llama3", 2, 4, *PP, *COMPILE, *FULL),
    run("llama3_pp_interleaved", "llama3", 2, 4, *schedule("Interleaved1F1B")),
    run("llama3_pp_interleaved_zero_bubble", "llama3", 2, 4, *schedule("InterleavedZeroBubble")),
    run("llama3_hsdp", "llama3", 4, 1, *HSDP),
    run("llama3_fsdp_tp", "llama3", 4, 2, *TP),
    run("llama3_fsdp_pp", "llama3", 4, 2, *PP),
    run("llama3_tp_pp", "llama3", 4, 4, *TP, *PP),
    run("qwen3_tp", "qwen3", 2, 4, *TP),
    run("qwen3_moe_fsdp_selective_compile", "qwen3_moe", 2, 2, *SELECTIVE, *COMPILE),
    run("qwen3_moe_tp", "qwen3_moe", 2, 4, *TP),
    run("qwen3_moe_fsdp_tp_ep", "qwen3_moe", 4, 2, *TP, *EP),
    run("deepseek_v3_ep", "deepseek_v3", 2, 2, *EP),
    run("deepseek_v3_tp", "deepseek_v3", 2, 4, *TP),
    run("deepseek_v3_fsdp_tp_ep", "deepseek_v3", 4, 2, *TP, *EP),
    run("deepseek_v3_fsdp_selective_compile", "deepseek_v3", 2, 2, *SELECTIVE, *COMPILE),
]

# Context parallel cuts sequences in another order, so that random bits fall elsewhere: these two are compared.
CONTEXT = [run("llama3_cp", "llama3", 2, 4, *CP), run("llama3_cp_bf16", "llama3", 2, 4, *CP, converted=False)]
