import re
import string
from pathlib import Path
from typing import get_args

import pytest

from twonines.serving.console import texts
from twonines.serving.console.texts import LANGUAGES, TEXTS, Words
from twonines.serving.people.approvals import Verb

FOLDER = Path(texts.__file__).parent


def test_every_text_is_there_in_both_languages_with_the_same_values() -> None:
    def names(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for key, both in TEXTS.items():
        assert len(both) == len(LANGUAGES) and all(both), key
        assert names(both[0]) == names(both[1]), key


def test_chinese_texts_are_chinese() -> None:
    latin = {"AUROC"}
    for key, (_, chinese) in TEXTS.items():
        assert chinese in latin or re.search(r"[\u4e00-\u9fff]", chinese), key


def test_every_key_that_the_pages_name_exists() -> None:
    named = set()
    for path in FOLDER.glob("*.py"):
        named |= set(re.findall(r"\bt\(\s*\"([a-z_A-Z]+)\"", path.read_text()))
    assert len(named) > 100
    assert named <= TEXTS.keys(), named - TEXTS.keys()


def test_whatever_can_be_proposed_has_a_word() -> None:
    assert set(get_args(Verb)) <= TEXTS.keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_fill_in_values_and_fail_on_strangers(language: str) -> None:
    words = Words(language)
    assert "a.png" in words("reference_is", name="a.png")
    assert words.of("nothing of ours") is None
    with pytest.raises(KeyError):
        words("nothing of ours")
