#!/usr/bin/env python3
"""Writes the seed corpus of each target into a folder of its name: good files, and files that are wrong in one way each."""
import json
import pathlib
import struct
import sys

ROOT = pathlib.Path(__file__).parents[1]


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HEADERS = {
    "empty": ({}, 0),
    "scalar": ({"s": tensor("F32", [], 0, 4)}, 4),
    "two": ({"a": tensor("BF16", [2, 3], 0, 12), "b": tensor("U8", [5], 12, 17)}, 17),
    "metadata": ({"__metadata__": {"format": "pt"}, "w": tensor("F16", [4], 0, 8)}, 8),
    "no_metadata": ({"__metadata__": None, "w": tensor("F16", [4], 0, 8)}, 8),
    "sub_byte": ({"f4": tensor("F4", [2, 2], 0, 2), "f6": tensor("F6_E2M3", [4], 2, 5)}, 5),
    "zero": ({"z": tensor("F64", [0, 9], 0, 0)}, 0),
    "overlap": ({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 2, 6)}, 6),
    "gap": ({"a": tensor("U8", [1], 0, 1), "b": tensor("U8", [1], 2, 3)}, 3),
    "beyond": ({"a": tensor("U8", [99], 0, 99)}, 4),
    "huge_shape": ({"a": tensor("F32", [1 << 62, 1 << 62], 0, 4)}, 4),
    "bad_type": ({"a": tensor("F31", [1], 0, 4)}, 4),
    "bad_meta": ({"__metadata__": {"k": 1}}, 0),
}
INDICES = ['{"metadata": {"total_size": 4}, "weight_map": {"w": "a.safetensors"}}', '{"weight_map": {"w": "b.safetensors"}}',
           '{"weight_map": {"w": 1}}', '{"weight_map": []}', "[]", '{"weight_map": ' + '{"a": ' * 20]


def deep(levels):
    return "[" * levels + "]" * levels


def safetensors():
    for name, (header, size) in HEADERS.items():
        text = json.dumps(header).encode()
        yield f"header_{name}", bytes([0, size]) + text
        yield f"file_{name}", b"\x01" + struct.pack("<Q", len(text)) + text + bytes(range(size))
    yield "file_cut", b"\x01" + struct.pack("<Q", 1 << 40) + b"{"
    yield "file_pointer", b"\x01version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"
    yield "file_companion", b"\x01\0\5\x16\7\0\2\0\0Mac OS X        "
    yield "header_twice", b'\x00\x00{"a":{},"a":{}}'
    yield "header_deep", b"\x00\x00" + b'{"a":' * 50
    for i, text in enumerate(INDICES):
        yield f"index_{i}", b"\x02" + text.encode()


LINES = ['{"text": "one"}', '{"id": 1, "text": "two \\ud83d\\ude00 \\u00e9", "meta": {"text": 7, "list": [1, {"text": null}]}}',
         '{"n": 1e999, "text": "a", "m": -0.5E+7}', '{"n": "\\ud800", "text": "a"}', '{"text": "\\ud800"}', '{"text": "a", "text": "b"}',
         '{"text": 5}', '{"texts": "a"}', "[1]", '"text"', "", '{"text": "cut', '{"a": ' + deep(300) + ', "text": "b"}', '{"n": 01, "text": ""}']
# What `zstd` makes of the first line; a damaged frame; one whose window is too wide.
FRAMES = [bytes.fromhex("28b52ffd0458810000") + b'{"text": "one"}\n' + bytes.fromhex("da470a1d"),
          bytes.fromhex("28b52ffd0458820000") + b'{"text": "one"}\n', bytes.fromhex("28b52ffd0090010000")]


def jsonl():
    for i, line in enumerate(LINES):
        yield f"line_{i}", b"\x00" + line.encode()
    text = "\n".join(LINES[:3]).encode() + b"\r\n\n \n"
    yield "file", b"\x01" + text
    yield "file_bad", b"\x01" + text + b"\xff\n"
    yield "file_nul", b'\x01{"text": "a"}\0\n'
    for i, frame in enumerate(FRAMES):
        yield f"frame_{i}", b"\x02" + frame
    yield "frames", b"\x02" + FRAMES[0] * 2 + bytes.fromhex("502a4d18") + struct.pack("<I", 3) + b"abc"


def shard(width, vocab, separator, tokens, version=1, zero=0, count=None):
    header = b"UFP4TOK\0" + struct.pack("<IIIIQQ", version, width, vocab, separator, len(tokens) if count is None else count, zero)
    return header + b"".join(struct.pack("<H" if width == 2 else "<I", token) for token in tokens)


def token_shard():
    yield "two_bytes", shard(2, 1000, 3, [1, 2, 3, 999, 3, 3, 5])
    yield "four_bytes", shard(4, 2**31 - 1, 0, [0, 1, 2**31 - 2, 0])
    yield "separators", shard(2, 10, 0, [0, 0])
    yield "beyond", shard(2, 10, 0, [1, 10])
    yield "none", shard(2, 10, 0, [])
    yield "count", shard(2, 10, 0, [1, 2], count=2**63)
    yield "version", shard(2, 10, 0, [1], version=2)
    yield "zero", shard(2, 10, 0, [1], zero=1)
    yield "width", shard(4, 10, 0, [1])[:12] + struct.pack("<I", 3) + shard(4, 10, 0, [1])[16:]


TOML = ['a = 1\nb = [1, 2.5, "x", true]\n[t]\nc.d = "e"\n[[u]]\n', "a = 2020-01-01", "a = [[1]]", "a = = 1", "a = " + deep(40),
        "a." * 40 + "b = 1", "[" + "a." * 40 + "b]", "a = {b = {c = 1}}", "a = '''\nx'''\nb = \"\"\"\\\n  y\"\"\"", "a = nan\nb = -inf\nc = 0x1F\nd = 1_000",
        '"\\u0041" = "\\U0001F600"', "# only a comment"]


def toml():
    for i, text in enumerate(TOML):
        yield f"text_{i}", text.encode()
    for path in sorted([*ROOT.glob("recipes/*.toml"), *ROOT.glob("models/*.toml")]):
        yield path.stem, path.read_bytes()


STATE = {"step": 12, "tokens": 3400, "skipped": 2, "skipped_in_row": 1, "data": {"epoch": 0, "sequence": 7}, "data_fingerprint": "00ff"}
MANIFEST = {"format": 1, "files": {"state.json": {"bytes": 3, "xxh128": "ab"}, "config.toml": {"bytes": 0, "xxh128": ""}}}
POSITION = {"data": "0123456789abcdef", "epoch": 3, "sequence": 1000}


def checkpoint():
    for number, (name, good) in enumerate((("state", STATE), ("manifest", MANIFEST), ("position", POSITION))):
        kind = bytes([number])
        yield name, kind + json.dumps(good).encode()
        for i, wrong in enumerate((-1, 1.5, 1e300, 2**63, "x", None, True, [], {})):
            for key in good:
                yield f"{name}_{key}_{i}", kind + json.dumps({**good, key: wrong}).encode()
        yield f"{name}_deep", kind + deep(300).encode()
        yield f"{name}_nul", kind + json.dumps(good).encode() + b"\0{"
        yield f"{name}_overflow", kind + b'{"step": 1e999}'


def main(folder):
    for seeds in (checkpoint, jsonl, safetensors, token_shard, toml):
        own = folder / f"{seeds.__name__}_fuzz"
        own.mkdir(parents=True, exist_ok=True)
        for name, content in seeds():
            (own / name).write_bytes(content)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_corpus.py FOLDER")
    main(pathlib.Path(sys.argv[1]))
