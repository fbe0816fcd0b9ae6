"""Names: what was perhaps meant is said, and what a name stands for is found."""

import fractions
from pathlib import Path

import pytest

from nca_texture.names import check_name, file_names, find_class, near


def test_the_nearest_of_many_is_named_first() -> None:
    many = [f"texture-{number:02}" for number in range(30)]
    assert near("texture-29x", many).startswith("did you mean 'texture-29'? there are texture-00, ")
    assert near("q", many).endswith("texture-19 and 10 more")
    assert near("Texture-03", ["texture-03"]) == "did you mean 'texture-03'? there are texture-03"
    assert near("q", []) == "there are none"
    check_name("texture-00", many, "sample")
    with pytest.raises(ValueError, match="no sample is called 'q'; there are texture-00"):
        check_name("q", many, "sample")


def test_a_class_is_found_by_its_name_or_its_place() -> None:
    table = {"third": "fractions:Fraction"}
    assert find_class("third", table, "number", object) is fractions.Fraction
    assert find_class("fractions:Fraction", {}, "number", object) is fractions.Fraction
    for name, words in {
        "thrid": "no number is called 'thrid'; did you mean 'third'",
        "fractions:None": "the number 'fractions:None' cannot be imported",
        "no_such:Fraction": "cannot be imported: No module named 'no_such'",
        ":Fraction": "cannot be imported",
        "fractions:math": "fractions:math is no number; expected a class made from .*Path",
        "third": "fractions:Fraction is no number",
    }.items():
        with pytest.raises(ValueError, match=words):
            find_class(name, table, "number", Path)


def test_names_of_files_are_plain_and_differ() -> None:
    names = ["a b", "a-b", "../x", "Index", "", "A-B", "../..", "ex1_🦋", "🦋"]
    found = file_names(names, ["index"])
    assert found[:7] == ["a-b", "a-b-2", "x", "Index-2", "model", "A-B-3", "model-2"]
    assert len({name.casefold() for name in found}) == len(names)
    assert all(Path(name).name == name for name in found)
