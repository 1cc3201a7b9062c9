import pathlib
import subprocess
import time

import pytest


LIMIT_S = 600  # of a program that hangs; sanitized ones on a busy machine are slow


class Program:
    """Runs the program; output and exit code as they come."""

    def __init__(self, path):
        self.path = path
        self.started = []

    def __call__(self, *arguments, **options):
        command = [self.path, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, **options)

    def start(self, *arguments, **options):
        """Runs on while the test does, and not beyond it."""
        command = [self.path, *map(str, arguments)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        self.started.append(process)
        return process

    @staticmethod
    def wait_for(process, condition):
        """Until the condition holds."""
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert process.poll() is None, f"exit code {process.returncode}: {process.stderr.read()}"
            assert time.monotonic() < end, f"no end after {LIMIT_S} s"
            time.sleep(0.01)

    @staticmethod
    def rest(process):
        """Waits for its end: what it wrote to stderr."""
        return process.communicate(timeout=LIMIT_S)[1]

    def end_all(self):
        for process in self.started:
            process.kill()
            process.communicate()
        self.started.clear()

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


@pytest.fixture(autouse=True)
def nothing_runs_on(program):
    yield
    program.end_all()


@pytest.fixture(scope="session")
def verbs(program):
    """The verbs that this build has."""
    listing = program.succeeds("--help").stdout.split("Subcommands:")[1]
    return [line.split()[0] for line in listing.splitlines() if line.startswith("  ") and line[2] != " "]


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    return tmp_path
