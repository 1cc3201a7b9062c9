"""Tokenizers of Hugging Face: loaded with what is wrong said, their ids, and the one whose tokens are bytes."""

from pathlib import Path

from ufp4 import InputError

BYTE_VOCABULARY = 257
END_OF_DOCUMENT = 256
_MAX_FILE = 1 << 28


def load(path: Path):
    """The tokenizers.Tokenizer of a tokenizer.json."""
    from tokenizers import Tokenizer

    if not path.is_file():
        raise InputError(f"{path} is missing; expected the tokenizer.json of a tokenizer")
    if path.stat().st_size > _MAX_FILE:
        raise InputError(f"{path} has {path.stat().st_size} bytes, expected at most {_MAX_FILE}")
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # what the package raises has no type of its own
        raise InputError(f"{path} is no tokenizer: {error}") from None


def largest_id(path: Path) -> int:
    return max(load(path).get_vocab(with_added_tokens=True).values(), default=-1)


def byte_tokenizer():
    """Of the tokens of ufp4's own text: 0 to 255 are bytes, 256 ends a document."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    # A byte-level vocabulary spells the bytes that print as themselves, and the others as further characters in order.
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printed}
    for number, byte in enumerate(byte for byte in range(256) if byte not in letters):
        letters[byte] = chr(256 + number)
    tokenizer = Tokenizer(models.BPE(vocab={letters[byte]: byte for byte in range(256)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    return tokenizer


def separator_of(path: Path, tokenizer) -> int:
    """The token that ends a document: eos_token of the tokenizer_config.json beside it, or a token of a known name."""
    from ufp4.models.model_keys import read_config

    config = path.with_name("tokenizer_config.json")
    token = read_config(config).get("eos_token") if config.is_file() else None
    token = token.get("content") if isinstance(token, dict) else token
    for name in (token, "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"):
        number = tokenizer.token_to_id(name) if isinstance(name, str) else None
        if number is not None:
            return number
    raise InputError(f"{path}: no token ends a document; expected 'eos_token' in {config.name} beside it")


def serve(path: Path, lines, out) -> None:
    """Answers each line of JSON with one: {"hello"}, {"encode": text}, {"next": token of a growing text}."""
    import json

    from tokenizers.decoders import DecodeStream

    tokenizer = load(path)
    separator = separator_of(path, tokenizer)
    tokenizer.encode_special_tokens = True  # a text that spells a special token is text
    stream = DecodeStream(skip_special_tokens=False)
    for line in lines:
        question = json.loads(line)
        if "encode" in question:
            answer = {"ids": tokenizer.encode(question["encode"], add_special_tokens=False).ids}
        elif "next" in question:
            answer = {"text": stream.step(tokenizer, question["next"]) or ""}
        else:
            answer = {"separator": separator}
        out.write(json.dumps(answer) + "\n")
        out.flush()
