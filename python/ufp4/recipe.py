"""Recipes: which operands of a linear layer's three products are quantized, and how (docs/recipes.md)."""

import difflib
import functools
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ufp4 import InputError
from ufp4.library import message_of, operators

_FILES = Path(__file__).parent / "recipe_files"  # of an installed package
_SOURCE = Path(__file__).parents[2] / "recipes"  # of the source tree
_GEMMS = {"fprop": ("x", "w"), "dgrad": ("dy", "w"), "wgrad": ("dy", "x")}
_ABOUT = ("name", "summary", "keep_bf16")


class Recipe:
    """A recipe, checked when it is made.

    Takes the name of one that ships with ufp4 ("ufp4", see `recipes()`), a file ("my.toml"), keys as text
    ("*.*.format = e1m2; *.hadamard = 16"), a name and changes of it ("ufp4; dgrad.hadamard = 0"), a mapping of keys to
    values ({"base": "ufp4", "dgrad.hadamard": 0}), or another recipe.

    Raises InputError that names the key or the name that is wrong, and a near one.
    """

    _pairs: dict[str, str]

    def __init__(self, recipe: "str | Path | Mapping[str, Any] | Recipe"):
        if isinstance(recipe, Recipe):
            pairs: list[tuple[str, str]] = list(recipe._pairs.items())
        elif isinstance(recipe, Mapping):
            pairs = list(_pairs_of_mapping(recipe))
        elif isinstance(recipe, Path):
            pairs = list(_pairs_of_file(recipe))
        elif isinstance(recipe, str):
            pairs = list(_pairs_of_text(recipe))
        else:
            raise InputError(f"a recipe is a name, a file, keys or a Recipe, not {type(recipe).__name__}")
        about = {key: value for key, value in pairs if key in _ABOUT}
        keys = "; ".join(f"{key} = {value}" for key, value in pairs if key not in _ABOUT)
        self._pairs = {**_entries(keys), **about}

    @property
    def name(self) -> str:
        return self._pairs["name"]

    @property
    def summary(self) -> str:
        """One line about it."""
        return self._pairs.get("summary", "")

    @property
    def keep_bf16(self) -> tuple[str, ...]:
        """Patterns of layers that stay in BF16."""
        return tuple(p.strip() for p in self._pairs.get("keep_bf16", "").split(",") if p.strip())

    @property
    def text(self) -> str:
        """What the operators take: the keys whose values are not those of BF16, without name, summary and layers."""
        plain = _entries("")
        return "; ".join(f"{key} = {value}" for key, value in self._pairs.items() if key not in _ABOUT and plain[key] != value)

    @property
    def keys(self) -> dict[str, str]:
        """Every key with its value."""
        return dict(self._pairs)

    @property
    def stochastic(self) -> bool:
        """Whether an operand is rounded stochastically: its bits then follow from seed, step and layer."""
        return any(key.endswith(".rounding") and value == "sr" for key, value in self._pairs.items())

    @property
    def delayed(self) -> tuple[str, ...]:
        """The operands ("fprop.x") whose second-level scale the trainer takes from the step before. ufp4.nn finds it in the
        operand itself: docs/python.md."""
        return tuple(key.removesuffix(".amax") for key, value in self._pairs.items() if key.endswith(".amax") and value == "delayed")

    def unit(self, gemm: str) -> int:
        """Elements along the contraction axis of a product ("fprop", "dgrad", "wgrad") that must stay together: its
        largest block or transform; 1 where it is not quantized."""
        quantized = [operand for operand in _GEMMS[gemm] if self._pairs[f"{gemm}.{operand}.format"] != "bf16"]
        if not quantized:
            return 1
        from ufp4.quantization import formats

        blocks = {entry.name: entry.block for entry in formats()}
        sizes = [int(self._pairs.get(f"{gemm}.hadamard", "0"))]
        for operand in quantized:
            block = self._pairs.get(f"{gemm}.{operand}.block", "0")
            sizes.append(int(block) if block.isdigit() and int(block) else blocks[self._pairs[f"{gemm}.{operand}.format"]])
        return max(sizes)

    def replace(self, changes: Mapping[str, Any]) -> "Recipe":
        """The same with other values for some keys."""
        return Recipe({**self._pairs, **{key: _value(value) for key, value in changes.items()}})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self._pairs == other._pairs

    def __hash__(self) -> int:
        return hash(tuple(self._pairs.items()))

    def __repr__(self) -> str:
        return f"Recipe({self.name!r}: {self.summary})" if self.summary else f"Recipe({self.text!r})"


def recipes() -> dict[str, str]:
    """The recipes that ship with ufp4: name and summary."""
    found = {}
    for path in _recipe_files().values():
        with path.open("rb") as file:
            document = tomllib.load(file)
        found[path.stem] = str(document.get("summary", ""))
    return found


@functools.cache
def _entries(text: str) -> dict[str, str]:
    """Every key of the recipe that the text describes, with its value."""
    try:
        entries = operators().recipe_entries(text)
    except RuntimeError as error:
        raise InputError(f"recipe: {message_of(error)}") from None
    return {key: value for key, _, value in (entry.partition(" = ") for entry in entries)}


def _recipe_files() -> dict[str, Path]:
    folder = _FILES if _FILES.is_dir() else _SOURCE
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, _value(value)


def _pairs_of_file(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise InputError(f"recipe file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"recipe file {path}: {error}") from None
    if "name" not in document:
        yield "name", path.stem
    yield from _flat(document)


def _pairs_of_name(name: str) -> Iterator[tuple[str, str]]:
    files = _recipe_files()
    if name not in files:
        near = difflib.get_close_matches(name, files, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(f"unknown recipe {name!r}{hint}; there are {', '.join(files)}")
    yield from _pairs_of_file(files[name])


def _pairs_of_mapping(mapping: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rest = dict(mapping)
    if "base" in rest:
        yield from Recipe(str(rest.pop("base")))._pairs.items()
    yield from _flat(rest)


def _pairs_of_text(text: str) -> Iterator[tuple[str, str]]:
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if parts and "=" not in parts[0]:
        first = parts.pop(0)
        if first.endswith(".toml") or "/" in first:
            yield from _pairs_of_file(Path(first))
        else:
            yield from _pairs_of_name(first)
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"recipe entry {part!r} is not of the form key = value")
        yield key.strip(), value.strip()
