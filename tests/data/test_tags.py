"""Schemes of tags."""

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from ptft.data.tags import as_bio, breaks, scheme_of

SCHEMES = {
    "bio": [["B-A", "I-A", "B-A"], ["O", "B-B", "O"]],
    "bio with a mistake": [["B-A", "I-A"], ["O", "I-B", "O"]],
    "iob1": [["I-A", "I-A", "B-A"], ["O", "I-B", "I-A"]],
    "iob1 without any B": [["I-A", "I-A", "O"]],
    "bioes": [["B-A", "E-A", "S-A"], ["O", "S-B", "O"]],
    "bioes of single words": [["S-A", "O"]],
    "words": [["NOUN", "VERB", "O"], ["X"]],
}


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_is_known_by_its_tags(name):
    assert scheme_of(SCHEMES[name]) == name.partition(" ")[0]


@pytest.mark.parametrize("tags", [["I-A", "I-A", "B-A", "I-B", "O", "I-A"], ["O"], ["I-A", "B-A", "I-A"], ["B-A", "I-A"]])
def test_iob1_becomes_bio_with_the_same_spans(tags):
    found = as_bio(tags)
    assert get_entities(found) == get_entities(tags)
    assert breaks(found, "bio") == 0
    assert len(found) == len(tags)


BROKEN = {
    ("bio", "B-A I-A I-A O B-B B-B"): 0,
    ("bio", "I-A O I-A"): 2,
    ("bio", "B-A I-B"): 1,
    ("bioes", "B-A I-A E-A S-B O"): 0,
    ("bioes", "B-A I-A O"): 1,
    ("bioes", "B-A"): 1,
    ("bioes", "E-A O"): 1,
    ("bioes", "B-A E-B S-A"): 1,
    ("bioes", "S-A I-A E-A"): 1,
    ("iob1", "I-A B-A O I-B"): 0,
    ("iob1", "O B-A"): 1,
    ("words", "NOUN VERB"): 0,
}


@pytest.mark.parametrize(("scheme", "tags"), BROKEN)
def test_tags_that_cannot_follow_one_another_are_counted(scheme, tags):
    assert breaks(tags.split(), scheme) == BROKEN[scheme, tags]
