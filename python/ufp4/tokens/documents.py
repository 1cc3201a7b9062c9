"""Documents out of text, JSON lines and Parquet, plain or compressed, checked as they are read."""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ufp4 import InputError
from ufp4.checks import shown

MAX_DOCUMENT = 1 << 29  # bytes, as src/data/text_reader.h has it for a line
_PIECE = 1 << 22

# A document, and how many bytes of its file are read with it.
Document = tuple[str, int]


class _Counted(io.RawIOBase):
    """A file that knows how much of it was read."""

    def __init__(self, path: Path):
        self._file = open(path, "rb")
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        found = self._file.readinto(buffer)
        self.count += found or 0
        return found

    def close(self) -> None:
        self._file.close()
        super().close()


def _opened(path: Path, raw: _Counted) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=io.BufferedReader(raw, _PIECE))
    if path.suffix == ".zst":
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.PythonFile(io.BufferedReader(raw, _PIECE), mode="r"), "zstd")
    return io.BufferedReader(raw, _PIECE)


def _text_of(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: no UTF-8 at byte {error.start}: {shown(data[error.start:error.start + 4])}") from None


def _read_text(path: Path, stream: BinaryIO, key: str) -> Iterator[str]:
    data = b""
    while piece := stream.read(_PIECE):
        data += piece
        if len(data) > MAX_DOCUMENT:
            raise InputError(f"{path}: a document of more than {MAX_DOCUMENT} bytes; cut it, or give JSON lines")
    if b"\0" in data:
        raise InputError(f"{path}: a NUL byte at {data.index(0)}: it is no text")
    yield _text_of(data, str(path))


def _read_lines(path: Path, stream: BinaryIO, key: str) -> Iterator[str]:
    number, kept = 0, b""
    while True:
        piece = stream.read(_PIECE)
        *lines, kept = (kept + piece).split(b"\n") if piece else ([kept, b""] if kept else [b""])
        for line in lines:
            number += 1
            if line.strip():
                yield _field(line, key, f"{path}:{number}")
        if len(kept) > MAX_DOCUMENT:
            raise InputError(f"{path}:{number + 1}: a line of more than {MAX_DOCUMENT} bytes")
        if not piece:
            return


def _field(line: bytes, key: str, where: str) -> str:
    try:
        value = json.loads(_text_of(line, where))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: no JSON: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get(key), str):
        found = "no object" if not isinstance(value, dict) else f"'{key}' is {shown(value[key])}" if key in value else f"no '{key}'"
        raise InputError(f"{where}: {found}, expected an object whose '{key}' is a string")
    text = value[key]
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: a lone surrogate, {shown(text[error.start])}, at character {error.start} of '{key}'") from None
    return text


def _parquet(path: Path, key: str) -> Iterator[Document]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} is no Parquet file: {error}") from None
    names = file.schema_arrow.names
    if key not in names:
        raise InputError(f"{path}: no column '{key}', expected one of text; it has " + ", ".join(map(shown, names)))
    kind = file.schema_arrow.field(key).type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise InputError(f"{path}: the column '{key}' is of {kind}, expected strings")
    rows = max(1, file.metadata.num_rows)
    read, size = 0, path.stat().st_size
    try:
        for batch in file.iter_batches(1024, columns=[key]):
            for value in batch.column(0):
                read += 1
                text = value.as_py()
                if text is None:
                    raise InputError(f"{path}: row {read - 1} has no '{key}'")
                if len(text) > MAX_DOCUMENT:
                    raise InputError(f"{path}: row {read - 1} has more than {MAX_DOCUMENT} bytes")
                yield text, size * read // rows
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: row {read}: {error}") from None


_PLAIN: dict[str, Callable] = {".txt": _read_text, ".jsonl": _read_lines, ".json": _read_lines, ".ndjson": _read_lines}
ENDINGS = [*(end + packed for end in _PLAIN for packed in ("", ".gz", ".zst")), ".parquet"]


def check_kind(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} is no file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    if not path.name.endswith(tuple(ENDINGS)):
        raise InputError(f"{path}: unknown kind of file, expected a name that ends in one of " + ", ".join(ENDINGS))


def documents(path: Path, key: str) -> Iterator[Document]:
    """Every document of a file, empty ones too, with the bytes of the file that are read."""
    check_kind(path)
    if path.suffix == ".parquet":
        yield from _parquet(path, key)
        return
    kind = Path(path.stem).suffix if path.suffix in (".gz", ".zst") else path.suffix
    with _Counted(path) as raw:
        try:
            for text in _PLAIN[kind](path, _opened(path, raw), key):
                yield text, raw.count
        except (EOFError, zlib.error, OSError) as error:
            raise InputError(f"{path}: damaged or cut: {error}") from None
