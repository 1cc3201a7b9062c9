"""Token shards (src/data/token_shard.h has the format): written whole, under a hidden name first."""

import os
import struct
from pathlib import Path

import numpy as np

MAGIC = b"UFP4TOK\0"
HEADER = struct.Struct("<8sIIIIQQ")
VERSION = 1


def tokenizer_hash(tokenizer: bytes) -> int:
    """What a shard keeps of the tokenizer.json that made it: the first 8 bytes of its XXH3-128. 0 means unknown."""
    import xxhash

    return int(xxhash.xxh3_128_hexdigest(tokenizer)[:16], 16)


class ShardWriter:
    def __init__(self, path: Path, vocabulary: int, separator: int, tokenizer: int):
        self.path = path
        self.tokens = 0
        self._hidden = path.with_name(f".{path.name}.new")
        self._kind = np.dtype("<u2") if vocabulary <= 65536 else np.dtype("<u4")
        self._facts = (vocabulary, separator)
        self._tokenizer = tokenizer
        self._file = open(self._hidden, "wb")
        self._file.write(b"\0" * HEADER.size)

    def add(self, tokens: list[int]) -> None:
        """A document, and the token that ends it."""
        self._file.write(np.array([*tokens, self._facts[1]], dtype=self._kind).tobytes())
        self.tokens += len(tokens) + 1

    def commit(self) -> None:
        self._file.seek(0)
        self._file.write(HEADER.pack(MAGIC, VERSION, self._kind.itemsize, *self._facts, self.tokens, self._tokenizer))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._hidden, self.path)

    def abandon(self) -> None:
        self._file.close()
        self._hidden.unlink(missing_ok=True)
