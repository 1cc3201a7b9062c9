import pathlib
import subprocess

import pytest


class Program:
    """Runs the program; output and exit code as they come."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *arguments, **options):
        command = [self.path, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)

    def succeeds(self, *arguments, **options):
        done = self(*arguments, **options)
        assert done.returncode == 0, done.stderr
        return done

    def fails(self, code, *arguments, **options):
        """The message, without the prefix that every error has."""
        done = self(*arguments, **options)
        assert done.returncode == code, f"exit code {done.returncode}; {done.stderr}"
        last = done.stderr.splitlines()[-1]
        assert last.startswith("ufp4: error: "), done.stderr
        return last.removeprefix("ufp4: error: ")


@pytest.fixture(scope="session")
def program(ufp4):
    return Program(ufp4)


@pytest.fixture(scope="session")
def verbs(program):
    """The verbs that this build has."""
    listing = program.succeeds("--help").stdout.split("Subcommands:")[1]
    return [line.split()[0] for line in listing.splitlines() if line.startswith("  ") and line[2] != " "]


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    return tmp_path
