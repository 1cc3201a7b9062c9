#!/usr/bin/env python3
"""Writes the seed corpus of safetensors_fuzz into a folder: good files, and files that are wrong in one way each."""
import json
import pathlib
import struct
import sys


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HEADERS = {
    "empty": ({}, 0),
    "scalar": ({"s": tensor("F32", [], 0, 4)}, 4),
    "two": ({"a": tensor("BF16", [2, 3], 0, 12), "b": tensor("U8", [5], 12, 17)}, 17),
    "metadata": ({"__metadata__": {"format": "pt"}, "w": tensor("F16", [4], 0, 8)}, 8),
    "sub_byte": ({"f4": tensor("F4", [2, 2], 0, 2), "f6": tensor("F6_E2M3", [4], 2, 5)}, 5),
    "zero": ({"z": tensor("F64", [0, 9], 0, 0)}, 0),
    "overlap": ({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 2, 6)}, 6),
    "gap": ({"a": tensor("U8", [1], 0, 1), "b": tensor("U8", [1], 2, 3)}, 3),
    "beyond": ({"a": tensor("U8", [99], 0, 99)}, 4),
    "huge_shape": ({"a": tensor("F32", [1 << 62, 1 << 62], 0, 4)}, 4),
    "bad_type": ({"a": tensor("F31", [1], 0, 4)}, 4),
    "bad_meta": ({"__metadata__": {"k": 1}}, 0),
}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (header, size) in HEADERS.items():
        text = json.dumps(header).encode()
        (folder / f"header_{name}").write_bytes(bytes([0, size]) + text)
        (folder / f"file_{name}").write_bytes(b"\x01" + struct.pack("<Q", len(text)) + text + bytes(range(size)))
    (folder / "file_cut").write_bytes(b"\x01" + struct.pack("<Q", 1 << 40) + b"{")
    (folder / "header_twice").write_bytes(b'\x00\x00{"a":{},"a":{}}')
    (folder / "header_deep").write_bytes(b"\x00\x00" + b'{"a":' * 50)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_corpus.py FOLDER")
    main(pathlib.Path(sys.argv[1]))
