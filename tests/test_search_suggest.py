"""What the box offers while somebody types, beside the labels whose names have the words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.search.parse import parse
from indexer.search.suggest import completed, suggestions

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


@pytest.mark.parametrize("label", ["Abseiling", "kicking_soccer_ball"])
def test_labels_keep_their_everyday_names_however_they_are_written(label: str) -> None:
    typed = {"Abseiling": "rappel", "kicking_soccer_ball": "kick a foot"}[label]
    assert [found.label for found in suggestions(typed, [label], 8)] == [label]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("yoga near:5s foot", "yoga near:5s kicking field goal"),
        ("yoga near:5s  applying cr", "yoga near:5s  applying cream"),
        ('label:"foot', 'label:"kicking field goal"'),
        ("label:foot", 'label:"kicking field goal"'),
        ('yoga -label:"kicking fi', 'yoga -label:"kicking field goal"'),
        ('yoga "kicking fi', "yoga kicking field goal"),
        ('path:"/a b" bbq', 'path:"/a b" barbequing'),
        ("score:>0.5 bb", "score:>0.5 barbequing"),
        ("blue foot", None),  # no phrase has both
        ("yoga path:foot", None),
        ('yoga path:"foot', None),
        ('label:"barbequing"', None),
        ('label:"barbequing" ', None),
        ("label:", None),
        ("yoga label:", None),
    ],
)
def test_only_the_words_typed_last_are_replaced(typed: str, expected: str | None) -> None:
    labels = ["kicking field goal", "applying cream", "barbequing"]
    found = suggestions(typed, labels, 8)
    assert [completed(typed, label) for label, _ in found] == ([] if expected is None else [expected])
    if expected:
        parse(expected)


@given(st.text(max_size=20) | st.lists(st.sampled_from(["label:", "-label:", "path:", '"', "foot", " ", "\\"])).map("".join))
def test_what_was_typed_before_stays(typed: str) -> None:
    suggestions(typed, LABELS, 8)
    assert typed.startswith(completed(typed, "yoga").removesuffix("yoga").removesuffix('label:"yoga"'))
