"""What the box offers while somebody types, beside the labels whose names have the words."""

import pytest

from indexer.search.suggest import suggestions

LABELS = [
    "shooting goal (soccer)",
    "barbequing",
    "push up",
    "squat",
    "applying cream",
    "kicking field goal",
    "a label of one's own",
]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("bb", [("barbequing", "bbq")]),
        ("  Sun  C", [("applying cream", "sun cream")]),
        ("football", [("shooting goal (soccer)", "football"), ("kicking field goal", "football")]),
        ("soccer", []),  # its name says so
        ("work o", [("push up", "work out"), ("squat", "work out")]),
        ("rill", []),  # words are typed from their beginning
        ("s", []),
        ("", []),
        ('label:"', []),
    ],
)
def test_everyday_words_suggest_labels_that_are_there(typed: str, expected: list[tuple[str, str]]) -> None:
    assert suggestions(typed, LABELS, 8) == expected


def test_phrases_that_begin_as_typed_come_first_and_only_so_many() -> None:
    assert suggestions("out", ["push up", "barbequing"], 8) == [("barbequing", "outdoor grill"), ("push up", "work out")]
    assert suggestions("out", ["push up", "barbequing"], 1) == [("barbequing", "outdoor grill")]
