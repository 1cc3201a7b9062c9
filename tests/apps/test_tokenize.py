"""ufp4 tokenize: shards of every kind of text, with files made by the packages that make them elsewhere."""

import gzip
import json

import numpy as np
import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("xxhash")
pa = pytest.importorskip("pyarrow")

import pyarrow.parquet  # noqa: E402

import hf_models  # noqa: E402

TEXTS = [f"the {animal} sat on the {place}, number {i}. é 日本" for i in range(40) for animal, place in
         [("cat", "mat"), ("dog", "log")]]


def lines(texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


@pytest.fixture
def tokenizer(folder):
    (folder / "tok").mkdir()
    return hf_models.byte_tokenizer(folder / "tok", TEXTS)


def read(path):
    """(vocabulary, separator, hash, documents)."""
    data = path.read_bytes()
    assert data[:8] == b"UFP4TOK\0"
    version, width, vocabulary, separator = np.frombuffer(data, "<u4", 4, 8)
    count, tokenizer = np.frombuffer(data, "<u8", 2, 24)
    tokens = np.frombuffer(data, f"<u{width}", offset=40)
    assert version == 1 and len(tokens) == count
    ends = np.flatnonzero(tokens == separator)
    return int(vocabulary), int(separator), int(tokenizer), [part.tolist() for part in np.split(tokens, ends + 1)[:-1]]


def documents(out):
    found = []
    for path in sorted(out.glob("*.bin")):
        _, separator, _, parts = read(path)
        found += [part[:-1] for part in parts]
        assert all(part[-1] == separator for part in parts)
    return found


def make(kind, path):
    if kind == ".parquet":
        pyarrow.parquet.write_table(pa.table({"id": range(len(TEXTS)), "text": TEXTS}), path, row_group_size=7)
    elif kind == ".jsonl.zst":  # of two frames
        codec = pa.Codec("zstd")
        path.write_bytes(b"".join(codec.compress(lines(part), asbytes=True) for part in (TEXTS[:30], TEXTS[30:])))
    elif kind == ".jsonl.gz":
        path.write_bytes(gzip.compress(lines(TEXTS[:30])) + gzip.compress(lines(TEXTS[30:])))
    else:
        path.write_bytes(lines(TEXTS))
    return path


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_every_kind_of_file_gives_the_same_tokens(kind, program, folder, tokenizer):
    file = make(kind, folder / f"texts{kind}")
    done = program.succeeds("tokenize", file, "--tokenizer", folder / "tok", "--out", folder / "out")
    assert documents(folder / "out") == [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]
    assert f"of {len(TEXTS)} documents in 1 shard" in done.stdout and "tokens" in done.stderr
    vocabulary, separator, hash, _ = read(folder / "out" / "tokens-00000.bin")
    import xxhash

    assert (vocabulary, separator) == (tokenizer.get_vocab_size(), tokenizer.token_to_id("<|endoftext|>"))
    assert hash == int(xxhash.xxh3_128_hexdigest((folder / "tok" / "tokenizer.json").read_bytes())[:16], 16)
    assert (folder / "out" / "tokenizer.json").read_bytes() == (folder / "tok" / "tokenizer.json").read_bytes()


def test_a_vocabulary_is_trained_and_the_run_carries_it(program, folder, verbs):
    (folder / "a.txt").write_text(" ".join(TEXTS))
    (folder / "b.txt").write_text(TEXTS[3])
    program.succeeds("tokenize", folder / "a.txt", folder / "b.txt", "--train-bpe", 300, "--out", folder / "out")
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(folder / "out" / "tokenizer.json"))
    assert made.get_vocab_size() == 300
    assert [made.decode(ids) for ids in documents(folder / "out")] == [" ".join(TEXTS), TEXTS[3]]
    if "train" not in verbs:
        return
    run = folder / "run"
    common = ["train", "--model", "tiny", "--steps", 2, "--device", "cpu", "--set", "model.layers=1", "--set",
              "train.batch=2", "--set", "model.context=32", "--set", "data.val_fraction=0"]
    program.succeeds(*common, "--data", folder / "out" / "tokens-00000.bin", "--out", run)
    assert (run / "tokenizer.json").read_bytes() == (folder / "out" / "tokenizer.json").read_bytes()
    found = json.loads(program.succeeds("evaluate", run, "--data", folder / "b.txt", "--json", "--device", "cpu").stdout)
    assert found["bytes"] == len(TEXTS[3].encode()) and found["tokens"] == len(made.encode(TEXTS[3]).ids)
    shard = json.loads(program.succeeds("evaluate", run, "--data", folder / "out" / "tokens-00000.bin", "--json",
                                        "--device", "cpu").stdout)
    assert shard["documents"][1]["loss"] == found["loss"] and shard["bits_per_byte"] is None
    program.succeeds("generate", run, "--prompt", "the", "--max-tokens", 3, "--device", "cpu")
    # What does not fit is refused by name.
    program.succeeds("tokenize", folder / "a.txt", "--train-bpe", 290, "--out", folder / "other")
    other = folder / "other" / "tokens-00000.bin"
    assert "of another tokenizer than" in program.fails(2, "evaluate", run, "--data", other)
    assert "of another tokenizer than" in program.fails(2, *common, "--init", run, "--data", other, "--out", folder / "new")
    assert "is read as bytes, but" in program.fails(
        2, *common, "--init", run, "--data", folder / "a.txt", "--out", folder / "new")
    (folder / "c.jsonl").write_bytes(lines(TEXTS))
    program.succeeds("tokenize", folder / "c.jsonl", "--tokenizer", folder / "other", "--out", folder / "third")
    mixed = [folder / "other" / "tokens-00000.bin", folder / "third" / "tokens-00000.bin"]
    program.succeeds(*common, "--data", *mixed, "--out", folder / "mixed", "--set", "data.weights=1,3")


def test_a_work_that_was_cut_goes_on_with_the_same_shards(program, folder, tokenizer):
    file = make(".jsonl", folder / "texts.jsonl")
    options = ["--tokenizer", folder / "tok", "--shard-tokens", 200]
    program.succeeds("tokenize", file, *options, "--out", folder / "whole")
    whole = sorted((folder / "whole").glob("*.bin"))
    assert len(whole) > 4
    program.succeeds("tokenize", file, *options, "--out", folder / "cut")
    # As if it had been killed while the third shard was written: what is done is a prefix, with its state.
    state = json.loads((folder / "cut" / "tokenize.json").read_text())
    kept = 2
    state |= {"shards": kept, "done": False, "documents": sum(len(read(path)[3]) for path in whole[:kept]),
              "tokens": sum(len(part) for path in whole[:kept] for part in read(path)[3])}
    (folder / "cut" / "tokenize.json").write_text(json.dumps(state))
    for path in sorted((folder / "cut").glob("*.bin"))[kept:]:
        path.unlink()
    (folder / "cut" / f".tokens-{kept:05}.bin.new").write_bytes(b"half")
    done = program.succeeds("tokenize", file, *options, "--out", folder / "cut")
    again = sorted((folder / "cut").glob("*.bin"))
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in whole]
    assert f"of {len(TEXTS)} documents in {len(whole)} shards" in done.stdout
    assert "is done already" in program.succeeds("tokenize", file, *options, "--out", folder / "cut").stdout
    said = refused(program, file, "--tokenizer", folder / "tok", "--shard-tokens", 201, "--out", folder / "cut")
    assert "begun with other settings: shard_tokens is 200 there and 201 here" in said


def refused(program, *arguments):
    done = program("tokenize", *arguments)
    assert done.returncode == 2, done.stderr
    return done.stderr.strip().splitlines()[-1].removeprefix("ufp4: ")


def test_wrong_input_is_refused_by_name_and_place(program, folder, tokenizer):
    def said(name, data, *options):
        (folder / name).write_bytes(data)
        return refused(program, folder / name, "--tokenizer", folder / "tok", "--out", folder / f"out-{name}", *options)

    assert "bad.jsonl:2: no UTF-8 at byte 10" in said("bad.jsonl", lines(["ok"]) + b'{"text": "\xff"}\n')
    assert "a lone surrogate, '\\ud800', at character 1" in said("bad.jsonl", b'{"text": "a\\ud800"}\n')
    assert "bad.jsonl:1: no JSON" in said("bad.jsonl", b"{")
    assert "bad.jsonl:1: no 'text'" in said("bad.jsonl", b'{"body": "a"}')
    assert "'text' is 3, expected" in said("bad.jsonl", b'{"text": 3}')
    assert "no UTF-8 at byte 1" in said("bad.txt", b"a\xff")
    assert "a NUL byte at 1" in said("bad.txt", b"a\0b")
    assert "is empty" in said("bad.txt", b"")
    assert "unknown kind of file" in said("bad.csv", b"a,b")
    assert "damaged or cut" in said("bad.jsonl.gz", gzip.compress(lines(TEXTS))[:-20])
    assert "damaged or cut" in said("bad.jsonl.zst", b"no zstd at all")
    assert "is no Parquet file" in said("bad.parquet", b"PAR1 and no more")
    assert "no document has a token" in said("bad.jsonl", lines(["", ""]))
    pyarrow.parquet.write_table(pa.table({"body": TEXTS, "n": range(len(TEXTS))}), folder / "t.parquet")
    table = (folder / "t.parquet").read_bytes()
    assert "no column 'text', expected one of text; it has 'body', 'n'" in said("x.parquet", table)
    assert "the column 'n' is of int64, expected strings" in said("x.parquet", table, "--text-key", "n")
    good = folder / "good.jsonl"
    good.write_bytes(lines(TEXTS))
    (folder / "full").mkdir()
    (folder / "full" / "thesis.doc").write_text("mine")
    assert "holds 'thesis.doc'" in refused(program, good, "--tokenizer", folder / "tok", "--out", folder / "full")
    assert "give either --tokenizer or --train-bpe" in refused(program, good, "--out", folder / "o")
    assert "--train-bpe is 200, expected at least 257" in refused(program, good, "--train-bpe", 200, "--out", folder / "o")
    (folder / "tok" / "tokenizer_config.json").unlink()
    bare = json.loads((folder / "tok" / "tokenizer.json").read_text())
    bare["added_tokens"] = []
    bare["model"]["vocab"] = {("<x>" if key == "<|endoftext|>" else key): value for key, value in bare["model"]["vocab"].items()}
    (folder / "tok" / "tokenizer.json").write_text(json.dumps(bare))
    assert "no token ends a document" in refused(program, good, "--tokenizer", folder / "tok", "--out", folder / "p")


def test_empty_documents_are_counted_and_special_tokens_in_text_are_text(program, folder, tokenizer):
    texts = ["one", "", "a <|endoftext|> in the text"]
    (folder / "t.jsonl").write_bytes(lines(texts))
    done = program.succeeds("tokenize", folder / "t.jsonl", "--tokenizer", folder / "tok", "--out", folder / "out")
    assert "1 empty documents are left out" in done.stdout
    found = documents(folder / "out")
    assert len(found) == 2 and tokenizer.decode(found[1], skip_special_tokens=False) == texts[2]


def test_a_normalizer_that_loses_bytes_is_told_of(program, folder, tokenizer):
    from tokenizers import normalizers

    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save(str(folder / "tok" / "tokenizer.json"))
    (folder / "t.jsonl").write_bytes(lines(["UPPER", *TEXTS]))
    done = program.succeeds("tokenize", folder / "t.jsonl", "--tokenizer", folder / "tok", "--out", folder / "out")
    assert "warning: 1 of 2 documents" in done.stdout and "loses some of it" in done.stdout
