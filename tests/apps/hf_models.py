"""Small random models of each kind, made by transformers."""

SIZES = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 24}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 24}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0}
KINDS = {
    "llama": ("Llama", {}),
    "llama_llama3_tied": ("Llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama_linear": ("Llama", {"rope_parameters": LINEAR, "num_key_value_heads": 4}),
    "mistral": ("Mistral", {"sliding_window": 96, "head_dim": 24}),
    "qwen2_yarn": ("Qwen2", {"rope_parameters": YARN, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 32}),
    "olmo2": ("Olmo2", {"pad_token_id": 1, "eos_token_id": 2}),
    "olmo3": ("Olmo3", {"sliding_window": 96, "pad_token_id": 1, "eos_token_id": 2}),
}


def make(kind, folder, dtype=None, **changes):
    """Saves the model, with weights that give every part a say, and returns it."""
    import torch
    import transformers

    name, settings = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **settings, **changes})
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0 if "norm" in path else 0.0, 0.2)
            else:
                parameter.mul_(4)
    if dtype is not None:
        model = model.to(dtype)
    model.save_pretrained(folder, max_shard_size="100KB" if kind == "qwen3" else "5GB")
    return model


def byte_tokenizer(folder, merges_of=None):
    """A tokenizer.json beside the model: byte-level BPE trained on a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(merges_of or ["the cat sat on the mat and the dog sat on the log"] * 20, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}')
    return tokenizer
