"""Words and running text."""

import pytest

from ptft.nn.words import part_of, text_of, with_blanks, words_of

TEXTS = {
    "Barack Obama went .": ["Barack", "Obama", "went", "."],
    "我在北京": ["我", "在", "北", "京"],
    "我在Google工作。": ["我", "在", "Google", "工", "作", "。"],
    "東京タワーは333 m": ["東京", "タワー", "は", "333", "m"],
    "서울 에서": ["서울", "에서"],
    "": [],
}


@pytest.mark.parametrize("text", TEXTS)
def test_blanks_stand_between_words_but_not_beside_chinese_and_japanese(text):
    assert text_of(TEXTS[text]) == text


def test_the_first_word_has_the_blank_it_has_elsewhere():
    assert with_blanks(["to", "be", "我", "be"]) == [" to", " be", "我", "be"]


def test_a_part_of_a_line_is_all_that_stands_between_its_words():
    line = " Müller-Lüdenscheidt,  in 北京 大学 (Google工作)"
    words = words_of(line)
    assert part_of(line, 0, 1) == "Müller-Lüdenscheidt,"
    assert part_of(line, 0, 2) == "Müller-Lüdenscheidt,  in"
    assert part_of(line, 2, 6) == "北京 大学"
    assert part_of(line, 6, len(words)) == "(Google工作)"
    assert [part_of(line, place, place + 1) for place in range(len(words))] == words


def test_a_line_is_split_at_white_space_and_chinese_into_characters():
    assert words_of("He said:\t“no”  我在Google工作。\n") == ["He", "said:", "“no”", "我", "在", "Google", "工", "作", "。"]
    assert words_of("서울 에서 the\u3000end") == ["서울", "에서", "the", "end"]
    assert words_of("  ") == []
