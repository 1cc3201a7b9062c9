"""python -m ufp4 <verb>: report, tensorboard."""

import argparse
import sys
from pathlib import Path

from ufp4 import InputError, __version__

EXAMPLES = """examples:
  python -m ufp4 report runs/books
  python -m ufp4 report runs/books --out books.html
  python -m ufp4 tensorboard runs/books && tensorboard --logdir runs/books/tensorboard"""


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
    board = verbs.add_parser("tensorboard", help="event files for TensorBoard from a run or compare folder")
    board.add_argument("folder", metavar="DIR", type=Path, help="the --out folder of ufp4 train or ufp4 compare")
    board.add_argument("--out", metavar="DIR", type=Path, help="where the event files go (DIR/tensorboard)")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a path may hold bytes that are no text
    try:
        # Imported here: one verb does not need what the other one does.
        if options.verb == "report":
            from ufp4.report import write_report

            document = options.path.exists() and not options.path.is_dir()
            beside = options.path.with_suffix(".html") if document else options.path / "report.html"
            print(write_report(options.path, options.out or beside))
        else:
            from ufp4.tensorboard_export import write_events

            print(write_events(options.folder, options.out or options.folder / "tensorboard"))
    except InputError as error:
        print(f"ufp4: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"ufp4: {error}; what pyproject.toml lists is needed", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"ufp4: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
