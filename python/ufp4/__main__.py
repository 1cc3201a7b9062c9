"""python -m ufp4 <verb>: report, tensorboard, tokenize, import, export."""

import argparse
import sys
from pathlib import Path

from ufp4 import InputError, __version__

EXAMPLES = """examples:
  python -m ufp4 report runs/books
  python -m ufp4 report runs/books --out books.html
  python -m ufp4 import models/Qwen3-0.6B runs/qwen3
  python -m ufp4 export runs/books books-hf
  python -m ufp4 tensorboard runs/books && tensorboard --logdir runs/books/tensorboard"""


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number") from None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ufp4", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"ufp4 {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True)
    report = verbs.add_parser("report", help="one self-contained HTML page from a run or compare folder, or a JSON document")
    report.add_argument("path", metavar="PATH", type=Path,
                        help="the --out folder of ufp4 train or ufp4 compare, or a file with the output of ufp4 analyze --json or ufp4 formats --json")
    report.add_argument("--out", metavar="FILE", type=Path, help="the page to write (DIR/report.html; FILE.html beside FILE.json)")
    report.add_argument("--follow", metavar="SECONDS", type=whole_number, help="writes the page again so often until the run is done; the page renews itself")
    board = verbs.add_parser("tensorboard", help="event files for TensorBoard from a run or compare folder")
    board.add_argument("folder", metavar="DIR", type=Path, help="the --out folder of ufp4 train or ufp4 compare")
    board.add_argument("--out", metavar="DIR", type=Path, help="where the event files go (DIR/tensorboard)")
    importing = verbs.add_parser("import", help="a checkpoint from a model folder in Hugging Face's layout")
    importing.add_argument("folder", metavar="HF_FOLDER", type=Path, help="with config.json, safetensors files and a tokenizer")
    importing.add_argument("out", metavar="OUT", type=Path, help="the checkpoint to make")
    importing.add_argument("--context", metavar="N", type=whole_number, help="tokens of a sequence (max_position_embeddings)")
    exporting = verbs.add_parser("export", help="a folder that transformers loads from a run")
    exporting.add_argument("run", metavar="RUN", type=Path, help="the --out folder of ufp4 train, or a checkpoint")
    exporting.add_argument("out", metavar="OUT", type=Path, help="the folder to make")
    exporting.add_argument("--dtype", default="bf16", help="bf16 or fp32 (bf16)")
    exporting.add_argument("--shard-size", default="5GB", help="most bytes of a file (5GB)")
    exporting.add_argument("--format", help="nvfp4, mxfp4 or int4: linears in compressed-tensors' packed layout")
    exporting.add_argument("--program", help="the program ufp4, which quantizes for --format")
    tokenizing = verbs.add_parser("tokenize", help="token shards from text, JSON lines and Parquet")
    tokenizing.add_argument("files", metavar="FILE", nargs="+", type=Path, help=".txt, .jsonl, .parquet; also .gz and .zst")
    tokenizing.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder of the shards")
    tokenizing.add_argument("--tokenizer", metavar="FILE|DIR", type=Path, help="a tokenizer.json, or a folder with one")
    tokenizing.add_argument("--train-bpe", metavar="VOCAB", type=whole_number, help="trains a tokenizer on the files")
    tokenizing.add_argument("--train-bytes", metavar="N", type=whole_number, default=1 << 30, help="most text for that (2^30)")
    tokenizing.add_argument("--text-key", metavar="NAME", default="text", help="key or column of the text (text)")
    tokenizing.add_argument("--shard-tokens", metavar="N", type=whole_number, default=1 << 28, help="tokens of a shard (2^28)")
    tokenizing.add_argument("--threads", metavar="N", type=whole_number, default=0, help="threads (all cores)")
    codec = verbs.add_parser("codec", help="answers lines of JSON about a tokenizer, for the program ufp4")
    codec.add_argument("tokenizer", metavar="TOKENIZER.json", type=Path)
    board.add_argument("--follow", metavar="SECONDS", type=whole_number, help="adds what is new so often until the run is done")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a path may hold bytes that are no text
    try:
        if getattr(options, "follow", None) is not None and options.follow < 1:
            raise InputError(f"--follow is {options.follow}, expected a number of seconds above 0")
        # Imported here: one verb does not need what the other one does.
        if options.verb == "report":
            from ufp4.report import follow, write_report

            document = options.path.exists() and not options.path.is_dir()
            beside = options.path.with_suffix(".html") if document else options.path / "report.html"
            if options.follow:
                print(follow(options.path, options.out or beside, options.follow))
            else:
                print(write_report(options.path, options.out or beside))
        elif options.verb == "import":
            from ufp4.models.importing import import_model

            print(import_model(options.folder, options.out, options.context))
        elif options.verb == "tokenize":
            from ufp4.tokens.tokenize import Settings, tokenize

            print(tokenize(Settings(options.files, options.out, options.tokenizer, options.train_bpe, options.train_bytes,
                                    options.text_key, options.shard_tokens, options.threads)))
        elif options.verb == "codec":
            from ufp4.models.tokenizer import serve

            serve(options.tokenizer, sys.stdin, sys.stdout)
        elif options.verb == "export":
            from ufp4.models.exporting import export_model

            print(export_model(options.run, options.out, options.dtype, options.shard_size, options.format, options.program))
        else:
            from ufp4.tensorboard_export import follow_events, write_events

            out = options.out or options.folder / "tensorboard"
            print(follow_events(options.folder, out, options.follow) if options.follow else write_events(options.folder, out))
    except InputError as error:
        print(f"ufp4: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"ufp4: {error}; what pyproject.toml lists is needed", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"ufp4: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ufp4: interrupted; the same command goes on", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
