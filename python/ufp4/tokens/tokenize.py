"""ufp4 tokenize: files of text become token shards, in order, again where they were left."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ufp4 import InputError
from ufp4.models import tokenizer as tokenizers
from ufp4.models.model_keys import read_config
from ufp4.tokens.documents import check_kind, documents
from ufp4.tokens.progress import Progress
from ufp4.tokens.shards import ShardWriter, tokenizer_hash

END = "<|endoftext|>"
_STATE = "tokenize.json"
_BATCH_BYTES = 1 << 23
_BATCH_DOCUMENTS = 2048
_CHECKED_EACH = 64  # one document of so many is decoded again


@dataclass(frozen=True)
class Settings:
    files: list[Path]
    out: Path
    tokenizer: Path | None = None  # a tokenizer.json or a folder with one
    train_bpe: int | None = None  # a vocabulary: one is trained on the files
    train_bytes: int = 1 << 30  # of text at most, for that
    key: str = "text"
    shard_tokens: int = 1 << 28
    threads: int = 0


@dataclass
class State:
    """What is done: written with each shard, so that a work that was cut goes on behind the last one."""

    identity: dict
    shards: int = 0
    documents: int = 0  # read, empty ones too
    empty: int = 0
    tokens: int = 0
    changed: int = 0  # of the checked ones, those that do not come back as they were
    checked: int = 0
    done: bool = False


def tokenize(settings: Settings, stream=None) -> str:
    """Returns a line about the shards."""
    for path in settings.files:
        check_kind(path)
    if (settings.tokenizer is None) == (settings.train_bpe is None):
        raise InputError("give either --tokenizer or --train-bpe")
    if settings.shard_tokens < 1:
        raise InputError(f"--shard-tokens is {settings.shard_tokens}, expected at least 1")
    if settings.threads:
        os.environ["RAYON_NUM_THREADS"] = str(settings.threads)  # read once, by the package tokenizers
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    out = settings.out
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, expected a folder for the shards")
    out.mkdir(parents=True, exist_ok=True)
    state = _read_state(settings)
    if state is None:
        _prepare_tokenizer(settings, stream)
        state = State(_identity(settings))
        _write_state(out, state)
    if state.done:
        return f"{out} is done already: " + _summary(state)
    return _Work(settings, state, stream).run()


def _identity(settings: Settings) -> dict:
    facts = [{"file": str(path), "bytes": path.stat().st_size} for path in settings.files]
    made = (settings.out / "tokenizer.json").read_bytes()
    given = None if settings.tokenizer is None else f"{tokenizer_hash(_given(settings.tokenizer).read_bytes()):016x}"
    return {"files": facts, "key": settings.key, "shard_tokens": settings.shard_tokens, "given": given,
            "train_bpe": settings.train_bpe, "tokenizer": f"{tokenizer_hash(made):016x}"}


def _read_state(settings: Settings) -> State | None:
    out = settings.out
    if not (out / _STATE).is_file():
        # A folder that holds something else is left alone; a start that was cut has no shards yet.
        strange = [path.name for path in out.iterdir() if path.name not in ("tokenizer.json", "tokenizer_config.json")
                   and not path.name.startswith(".")]
        if strange:
            raise InputError(f"{out} holds '{min(strange)}' and is no folder of shards, expected a new one")
        return None
    try:
        state = State(**read_config(out / _STATE))
    except TypeError as error:
        raise InputError(f"{out / _STATE} is not of this version: {error}") from None
    if state.shards == 0:
        return None  # nothing is lost with a new beginning
    identity = _identity(settings)
    for key, value in identity.items():
        if state.identity.get(key) != value:
            raise InputError(f"{out} was begun with other settings: {key} is {state.identity.get(key)!r} there and {value!r} here; choose another folder")
    return state


def _write_state(out: Path, state: State) -> None:
    hidden = out / f".{_STATE}.new"
    hidden.write_text(json.dumps(vars(state), indent=1) + "\n")
    os.replace(hidden, out / _STATE)


def _given(path: Path) -> Path:
    return path / "tokenizer.json" if path.is_dir() else path


def _prepare_tokenizer(settings: Settings, stream) -> None:
    """Puts tokenizer.json and tokenizer_config.json, which names the token that ends a document, into the folder."""
    out = settings.out
    if settings.train_bpe is not None:
        made = _trained(settings, stream)
        made.save(str(out / ".tokenizer.json.new"))
        os.replace(out / ".tokenizer.json.new", out / "tokenizer.json")
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END,
                  "clean_up_tokenization_spaces": False}
    else:
        source = _given(settings.tokenizer)
        loaded = tokenizers.load(source)
        separator = tokenizers.separator_of(source, loaded)
        (out / "tokenizer.json").write_bytes(source.read_bytes())
        config_file = source.with_name("tokenizer_config.json")
        config = read_config(config_file) if config_file.is_file() else {"tokenizer_class": "PreTrainedTokenizerFast"}
        config.setdefault("eos_token", loaded.id_to_token(separator))
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _trained(settings: Settings, stream):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if settings.train_bpe < 257:
        raise InputError(f"--train-bpe is {settings.train_bpe}, expected at least 257: 256 bytes and the end of a document")
    total = sum(path.stat().st_size for path in settings.files)
    progress = Progress(total, "documents read for the vocabulary", *([stream] if stream else []))

    def texts() -> Iterator[str]:
        left, before, count = settings.train_bytes, 0, 0
        for path in settings.files:
            for text, read in documents(path, settings.key):
                yield text
                count += 1
                left -= len(text)
                progress.show(before + read, count)
                if left <= 0:
                    return
            before += path.stat().st_size

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=settings.train_bpe, special_tokens=[END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


@dataclass
class _Work:
    settings: Settings
    state: State
    stream: object
    progress: Progress = field(init=False)

    def __post_init__(self):
        self.files = self.settings.files
        self.total = sum(path.stat().st_size for path in self.files)
        self.progress = Progress(self.total, "tokens", *([self.stream] if self.stream else []))
        path = self.settings.out / "tokenizer.json"
        self.hash = tokenizer_hash(path.read_bytes())
        self.tokenizer = tokenizers.load(path)
        self.separator = tokenizers.separator_of(path, self.tokenizer)
        # A text that spells a special token is text, and must not end a document.
        self.tokenizer.encode_special_tokens = True
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.vocabulary = tokenizers.largest_id(path) + 1

    def run(self) -> str:
        writer = None
        for texts, read in self._batches():
            encoded = self.tokenizer.encode_batch(texts, add_special_tokens=False)
            for text, found in zip(texts, encoded, strict=True):
                self.state.documents += 1
                if not found.ids:
                    self.state.empty += 1
                    continue
                self._check(text, found.ids)
                writer = writer or self._writer()
                writer.add(found.ids)
                if writer.tokens >= self.settings.shard_tokens:
                    self._finish(writer)
                    writer = None
            self.progress.show(read, self.state.tokens + (writer.tokens if writer else 0))
        if writer:
            self._finish(writer)
        if self.state.tokens == 0:
            raise InputError(f"{self.files[0]}: no document has a token")
        self.state.done = True
        _write_state(self.settings.out, self.state)
        self.progress.show(self.total, self.state.tokens, last=True)
        return f"{self.settings.out}: " + _summary(self.state)

    def _writer(self) -> ShardWriter:
        name = f"tokens-{self.state.shards:05}.bin"
        return ShardWriter(self.settings.out / name, self.vocabulary, self.separator, self.hash)

    def _finish(self, writer: ShardWriter) -> None:
        writer.commit()
        self.state.shards += 1
        self.state.tokens += writer.tokens
        _write_state(self.settings.out, self.state)

    def _check(self, text: str, ids: list[int]) -> None:
        if self.separator in ids:
            raise InputError(f"document {self.state.documents}: the tokenizer makes its end-of-document token {self.separator} out of text")
        if self.state.documents % _CHECKED_EACH == 1:
            self.state.checked += 1
            self.state.changed += self.tokenizer.decode(ids, skip_special_tokens=False) != text

    def _batches(self) -> Iterator[tuple[list[str], int]]:
        """Documents behind those that are done, with the bytes read of all files."""
        skip, before, first = self.state.documents, 0, True
        batch: list[str] = []
        size = 0
        for path in self.files:
            read = 0
            for text, read in documents(path, self.settings.key):
                if skip > 0:
                    skip -= 1
                    continue
                if first:
                    self.progress.begin_at(before + read if self.state.documents else 0)
                    first = False
                batch.append(text)
                size += len(text)
                if size >= _BATCH_BYTES or len(batch) >= _BATCH_DOCUMENTS:
                    yield batch, before + read
                    batch, size = [], 0
            before += path.stat().st_size
        if batch:
            yield batch, before


def _summary(state: State) -> str:
    text = f"{state.tokens} tokens of {state.documents - state.empty} documents in {state.shards} shard{'' if state.shards == 1 else 's'}"
    if state.empty:
        text += f"; {state.empty} empty documents are left out"
    if state.changed:
        text += (f"; warning: {state.changed} of {state.checked} documents that were decoded again differ from their text: "
                 "the tokenizer's normalizer or unknown token loses some of it")
    return text
