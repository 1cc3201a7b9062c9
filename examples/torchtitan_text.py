"""A tokenizer and a data set for torchtitan, made from text files, without a download (docs/torchtitan.md).

    python examples/torchtitan_text.py OUT VOCABULARY FILE..

OUT/tokenizer is for --model.hf_assets_path, and OUT/text for --training.dataset c4_test --training.dataset_path.
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if len(sys.argv) < 4:
    sys.exit(__doc__)
out, vocabulary, files = Path(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]]

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train([str(file) for file in files], trainers.BpeTrainer(
    vocab_size=vocabulary, special_tokens=["<s>", "</s>"], show_progress=False,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
(out / "tokenizer").mkdir(parents=True, exist_ok=True)
tokenizer.save(str(out / "tokenizer" / "tokenizer.json"))
(out / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))

(out / "text").mkdir(exist_ok=True)
with (out / "text" / "text.jsonl").open("w") as data:
    for file in files:
        data.write(json.dumps({"text": file.read_text()}) + "\n")
print(f"{len(files)} documents in {out / 'text'}, {tokenizer.get_vocab_size()} tokens in {out / 'tokenizer'}")
