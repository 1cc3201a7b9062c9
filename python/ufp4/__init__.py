"""The Python side of ufp4: reports of run folders."""

__version__ = "0.1.0"


class InputError(Exception):
    """Wrong input: the message names the file, what was found and what was expected. Exit code 2."""
