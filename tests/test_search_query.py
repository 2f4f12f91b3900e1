"""The query language: what is read, what is written back, and where a complaint points."""

from __future__ import annotations

from datetime import datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import ConfigError, QueryError
from indexer.search.parse import LONGEST, parse
from indexer.search.query import BARE, KEYS, Action, Limit, Near, Query, as_typed, quoted
from indexer.search.span import Span, parse_span


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("arm wrestling", Query(Action(("arm", "wrestling")))),
        ("petting animal (not cat)", Query(Action(("petting", "animal", "(not", "cat)")))),
        ('"a:b" c"d e"', Query(Action(("a:b", "c", "d e")))),
        (r'"say \"hi\" \\"', Query(Action((r'say "hi" \\'[:-1],)))),
        ("clean - and-jerk", Query(Action(("clean", "-", "and-jerk")))),
        ('label:"arm wrestling" LABEL:yoga', Query(Action((), ("arm wrestling", "yoga")))),
        ("drinking near:5s laughing", Query(Action(("drinking",)), Near(5000, Action(("laughing",))))),
        ("a near:0s label:b c", Query(Action(("a",)), Near(0, Action(("c",), ("b",))))),
        ("a -label:b -label:c", Query(Action(("a",)), without=("b", "c"))),
        ("path:/srv/a b", Query(Action(("b",)), path="/srv/a")),
        ('a path:"/my files/*"', Query(Action(("a",)), path="/my files/*")),
        ("a after:2019 before:2019-06", Query(Action(("a",)), after=datetime(2019, 1, 1), before=datetime(2019, 6, 1))),
        ("a after:2019-06-01T18:00", Query(Action(("a",)), after=datetime(2019, 6, 1, 18))),
        ("a score:0.5", Query(Action(("a",)), score=(Limit(">=", 0.5),))),
        ("a score:>50% score:<=.9", None),
        ("a score:>50% score:<=0.9", Query(Action(("a",)), score=(Limit(">", 0.5), Limit("<=", 0.9)))),
        ("a dur:>1m30s", Query(Action(("a",)), dur=(Limit(">", 90_000),))),
        ("a model:mvit_v2_s", Query(Action(("a",)), model="mvit_v2_s")),
    ],
)
def test_what_is_read(text: str, query: Query | None) -> None:
    if query is None:
        with pytest.raises(QueryError):
            parse(text)
    else:
        assert parse(text) == query


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("", 0, 'write an action, in words (arm wrestling) or as label:"arm wrestling"'),
        ("path:/a", 7, 'write an action, in words (arm wrestling) or as label:"arm wrestling"'),
        ("a near:5s", 9, 'write an action after near:, in words (arm wrestling) or as label:"arm wrestling"'),
        ("near:5s a", 0, "near: stands between two actions: write one before it"),
        ("a near:1s b near:1s c", 12, "near: joins two actions, not three"),
        ("a near:5 b", 7, '"5" has no unit; write 5s for seconds, 5m for minutes'),
        ("a near:2h b", 7, '"2h" is out of range; allowed: 0s to 1h'),
        ("a pat:/b", 2, "pat: is not known; allowed: label:, near:, path:, after:, before:, score:, dur:, model:;"
         " a word with a colon needs quotes"),
        ("at 12:30", 5, "a word with a colon needs quotes"),
        ("a -path:/b", 2, "only a label can be left out: -label:, not -path:"),
        ("a -hugging", 2, 'to leave a label out, write -label:"hugging"; a word that begins with a dash needs quotes'),
        ("a label: b", 8, 'label: needs a value right after the colon, such as label:"arm wrestling"'),
        ("a -label: b", 9, '-label: needs a value right after the colon, such as -label:"arm wrestling"'),
        ("a near: 5s b", 7, "near: needs a value right after the colon, such as near:5s"),
        ("a score: 0.5", 8, "score: needs a value right after the colon, such as score:>0.5"),
        ('a path:""', 7, "there is nothing between the quotes"),
        ('a "b', 2, "this quote is not closed"),
        ("a path:b path:c", 9, "path: is there twice; write one"),
        ("a score:>2", 9, 'score: "2" is not a share from 0 to 1; write for example 0.2 or 20%'),
        ("a dur:>=10", 8, '"10" has no unit; write 10s for seconds, 10m for minutes'),
        ("a after:2019-13", 8, "after: '2019-13' is no date; write 2019, 2019-06, 2019-06-01 or 2019-06-01T18:00"),
        ("a before:1066", 9, "before: '1066' is no date; write 2019, 2019-06, 2019-06-01 or 2019-06-01T18:00"),
        ("a\x00", 1, "this is no character; no database takes it"),
        ("path:\udce9", 5, "this is no character; no database takes it"),
        ("a" * (LONGEST + 1), LONGEST, f"a query has at most {LONGEST} characters"),
    ],
)  # fmt: skip
def test_complaints_point_at_the_character(text: str, position: int, problem: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert (caught.value.position, caught.value.problem) == (position, problem)
    shown = "".join(c if c.isprintable() else "?" for c in text)
    assert str(caught.value).splitlines() == [problem, f"  {shown}", f"  {' ' * position}^"]
    assert caught.value.exit_code == 2


def test_the_caret_stands_under_the_character_whatever_stands_before_it() -> None:
    with pytest.raises(QueryError) as caught:
        parse("a\n\x1b[31m\tb score:x")
    _, shown, caret = str(caught.value).splitlines()
    assert shown == "  a??[31m?b score:x"
    assert shown[caret.index("^")] == "x"


def render(query: Query) -> str:
    """The text that is read as `query`."""
    terms = _action(query.action)
    if query.near is not None:
        terms += [f"near:{query.near.milliseconds}ms", *_action(query.near.action)]
    terms += [f"-label:{quoted(label)}" for label in query.without]
    if query.path is not None:
        terms.append(f"path:{quoted(query.path)}")
    if query.after is not None:
        terms.append(f"after:{_date(query.after)}")
    if query.before is not None:
        terms.append(f"before:{_date(query.before)}")
    terms += [f"score:{limit.operator}{limit.number!r}" for limit in query.score]
    terms += [f"dur:{limit.operator}{limit.number:.0f}ms" for limit in query.dur]
    if query.model is not None:
        terms.append(f"model:{quoted(query.model)}")
    return " ".join(terms)


def _action(action: Action) -> list[str]:
    words = [word if BARE.fullmatch(word) else quoted(word) for word in action.words]
    return words + [f"label:{quoted(label)}" for label in action.labels]


def _date(moment: datetime) -> str:
    return moment.date().isoformat() if moment.time() == time.min else moment.isoformat()


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(str.strip)
actions = st.builds(Action, st.lists(words, max_size=3).map(tuple), st.lists(words, max_size=2).map(tuple)).filter(
    lambda action: action != Action()
)
operators = st.sampled_from([">", ">=", "<", "<="])
dates = st.datetimes(datetime(1900, 1, 1), datetime(9998, 1, 1)).map(lambda date: date.replace(microsecond=0))
queries = st.builds(
    Query,
    action=actions,
    near=st.none() | st.builds(Near, st.integers(0, 3_600_000), actions),
    without=st.lists(words, max_size=2).map(tuple),
    path=st.none() | words,
    after=st.none() | dates,
    before=st.none() | dates,
    score=st.lists(st.builds(Limit, operators, st.floats(0, 1).map(lambda x: round(x, 6))), max_size=2).map(tuple),
    dur=st.lists(st.builds(Limit, operators, st.integers(0, 864_000_000)), max_size=2).map(tuple),
    model=st.none() | words,
)


@given(queries)
def test_what_is_written_is_read_back(query: Query) -> None:
    assert parse(render(query)) == query


@given(st.lists(words.map(str.strip), min_size=1, max_size=3).map(" ".join))
def test_a_label_is_typed_as_its_name_or_in_quotes(name: str) -> None:
    query = parse(as_typed(name))
    assert query in (Query(Action(tuple(name.split()))), Query(Action((), (name,))))


@pytest.mark.parametrize("key", [*KEYS, "-label"])
def test_a_key_without_a_value_is_told_one_that_is_right(key: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(f"yoga {key}:")
    parse(f"yoga {caught.value.problem.rpartition(' such as ')[2]} yoga")


pieces = [*(f"{key}:" for key in KEYS), "-label:", "-", '"', "\\", " ", ":", ">", "5s", "0.5", "2019", "yoga", "é", "\x00"]


@given(st.text(max_size=30) | st.lists(st.sampled_from(pieces), max_size=12).map("".join))
def test_any_text_is_read_or_complained_about_inside_it(text: str) -> None:
    position = 0
    try:
        query = parse(text)
    except QueryError as error:
        position = error.position
    else:
        assert parse(render(query)) == query
    assert 0 <= position <= len(text)


# URI@START-END


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("fair.mp4@750-770.5", Span("fair.mp4", 750.0, 770.5)),
        ("/a b/fair.mp4@12:30-12:50", Span("/a b/fair.mp4", 750.0, 770.0)),
        ("s3://me@bucket/x-1.mp4@0:00-01:12:30.250", Span("s3://me@bucket/x-1.mp4", 0.0, 4350.25)),
    ],
)
def test_a_part_of_a_video(text: str, span: Span) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("fair.mp4", "is no part of a video; write URI@START-END"),
        ("@1-2", "is no part of a video; write URI@START-END"),
        ("fair.mp4@12:30", "is no part of a video; write URI@START-END"),
        ("fair.mp4@5-4", "the end must be after the start"),
        ("fair.mp4@5-5", "the end must be after the start"),
        ("fair.mp4@1:60-2:00", "'1:60' is no time; write 750, 750.25, 12:30 or 01:12:30.250"),
        ("fair.mp4@1:61:00-2:00", "'1:61:00' is no time"),
        ("fair.mp4@-1-2", "'' is no time"),
        ("fair.mp4@1e3-2e3", "'1e3' is no time"),
    ],
)
def test_what_is_no_part_of_a_video(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_span(text)
    assert problem in str(caught.value)
