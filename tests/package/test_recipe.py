"""Recipes by name, file and keys."""

import copy
import pickle
from pathlib import Path

import pytest
import ufp4

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_recipes_are_those_of_the_files():
    assert set(ufp4.recipes()) == {path.stem for path in RECIPES.glob("*.toml")}
    assert ufp4.recipes()["ufp4"] == "E1M2, RHT-16 on fprop, dgrad and wgrad, SR on dY"
    for name in ufp4.recipes():
        recipe = ufp4.Recipe(name)
        assert recipe.name == name and recipe.summary == ufp4.recipes()[name]
        assert ufp4.Recipe(recipe) == recipe and ufp4.Recipe(RECIPES / f"{name}.toml") == recipe


def test_the_ways_to_say_one():
    expected = ufp4.Recipe("ufp4; dgrad.hadamard = 0")
    assert expected == ufp4.Recipe({"base": "ufp4", "dgrad.hadamard": 0}) == ufp4.Recipe({"base": "ufp4", "dgrad": {"hadamard": 0}})
    assert expected == ufp4.Recipe("ufp4").replace({"dgrad.hadamard": 0})
    assert expected != ufp4.Recipe("ufp4") and hash(expected) == hash(copy.deepcopy(expected))
    assert pickle.loads(pickle.dumps(expected)) == expected
    assert expected.keys["dgrad.hadamard"] == "0" and expected.stochastic and not ufp4.Recipe("ufp4_no_sr").stochastic
    assert (expected.unit("fprop"), ufp4.Recipe("bf16").unit("fprop")) == (16, 1)
    assert ufp4.Recipe("mxfp4").unit("wgrad") == 32


def test_words_about_a_recipe_may_hold_anything():
    recipe = ufp4.Recipe({"base": "ufp4", "name": "mine", "summary": "one; two = three", "keep_bf16": ["layers.0.*", "a.b"]})
    assert (recipe.name, recipe.summary, recipe.keep_bf16) == ("mine", "one; two = three", ("layers.0.*", "a.b"))
    assert recipe.text == ufp4.Recipe("ufp4").text and ufp4.Recipe(recipe) == recipe


@pytest.mark.parametrize("recipe, message", [
    ("upf4", "unknown recipe 'upf4' .did you mean 'ufp4'"),
    ("nothing/here.toml", "here.toml: No such file"),
    ("*.*.fmt = e1m2", "unknown recipe key"),
    ("*.*.format = e1m3", "'e1m3'.*did you mean 'e1m2'"),
    ("ufp4; hadamard", "'hadamard' is not of the form key = value"),
    ({"base": "ufp4", "fprop.x.block": 17}, "block"),
    (3, "not int"),
])
def test_errors_name_what_is_wrong(recipe, message):
    with pytest.raises(ufp4.InputError, match=message):
        ufp4.Recipe(recipe)


def test_a_file_that_is_no_toml(tmp_path):
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ufp4.InputError, match="bad.toml"):
        ufp4.Recipe(tmp_path / "bad.toml")
