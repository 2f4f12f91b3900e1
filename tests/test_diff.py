"""What a run has to do. Every listed video is in exactly one place, and nothing is gone that was only out of sight."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import SourceError
from indexer.plan.diff import Plan, check_missing, diff
from indexer.records import Failure, KnownVideo, Skipped, Video

Listed = Video | Skipped | Failure


def video(name: str, fingerprint: str = "1") -> Video:
    return Video(f"/a/{name}", fingerprint, size_bytes=10, modified_at=5.0)


def skipped(name: str, reason: str = "symlink", fingerprint: str = "1") -> Skipped:
    return Skipped(video(name, fingerprint), reason)


def unseen(name: str) -> Failure:
    return Failure(video(name, ""), "E_ACCESS", "the folder cannot be read: Permission denied")


def not_there(name: str) -> Failure:
    return Failure(video(name, ""), "E_NOT_FOUND", "there is no such file")


def knowing(**states: str) -> dict[str, KnownVideo]:
    """name="state" (of bytes 1) or name="state fingerprint"; __ in a name is a slash."""
    known = {}
    for name, words in states.items():
        state, space, fingerprint = words.partition(" ")
        uri = f"/a/{name.replace('__', '/')}"
        known[uri] = KnownVideo(uri, state, fingerprint if space else "1")
    return known


def compare(
    listed: Iterable[Listed],
    known: dict[str, KnownVideo],
    *,
    elsewhere: dict[str, KnownVideo] | None = None,
    retry_failed: bool = False,
) -> Plan:
    """Diff a listing with what the catalog knows, all of it: `elsewhere` is what other sources own."""
    items = list(listed)
    others = {uri: replace(video, own=False) for uri, video in (elsewhere or {}).items()}
    pairs = [(item, known.get(uri_of(item)) or others.get(uri_of(item))) for item in items]
    return diff(pairs, known.keys() - {uri_of(item) for item in items}, retry_failed=retry_failed)


def buckets(plan: Plan) -> dict[str, object]:
    """What is not empty, by the letters of the names."""
    fields = {
        "new": [v.uri[3:] for v in plan.new],
        "changed": [v.uri[3:] for v in plan.changed],
        "retry": [v.uri[3:] for v in plan.retry],
        "unchanged": plan.unchanged,
        "failed": [uri[3:] for uri in plan.failed],
        "known_skips": plan.known_skips,
        "listing_skips": [s.video.uri[3:] for s in plan.listing_skips],
        "listing_failures": [f.video.uri[3:] for f in plan.listing_failures],
        "gone": [uri[3:] for uri in plan.gone],
        "adopted": [uri[3:] for uri in plan.adopted],
        "news": [item.video.uri[3:] for item in plan.news],
        "lost": plan.lost,
        "unseen": [failure.video.uri[3:] for failure in plan.unseen],
    }
    return {name: value for name, value in fields.items() if value}


@pytest.mark.parametrize(
    ("listed", "known", "expected"),
    [
        (video("x"), {}, {"new": ["x"]}),
        (video("x"), {"x": "pending"}, {"new": ["x"]}),
        (video("x"), {"x": "pending 0"}, {"new": ["x"]}),
        (video("x"), {"x": "indexed"}, {"unchanged": 1}),
        (video("x"), {"x": "indexed 0"}, {"changed": ["x"]}),
        (video("x"), {"x": "failed"}, {"failed": ["x"]}),
        (video("x"), {"x": "failed 0"}, {"changed": ["x"]}),
        (video("x"), {"x": "skipped"}, {"known_skips": 1}),
        (video("x"), {"x": "skipped 0"}, {"changed": ["x"]}),
        (skipped("x"), {}, {"listing_skips": ["x"]}),
        (skipped("x"), {"x": "pending"}, {"listing_skips": ["x"], "news": ["x"]}),
        (skipped("x"), {"x": "skipped"}, {"listing_skips": ["x"]}),
        (skipped("x", "symlink", "2"), {"x": "skipped"}, {"listing_skips": ["x"]}),
        (skipped("x"), {"x": "indexed"}, {"listing_skips": ["x"], "news": ["x"]}),
        (skipped("x", "too_new", "2"), {"x": "indexed"}, {"listing_skips": ["x"]}),
        (skipped("x", "too_new"), {"x": "pending"}, {"listing_skips": ["x"]}),
        (skipped("x", "too_new"), {"x": "indexed"}, {"unchanged": 1}),
        (unseen("x"), {}, {"listing_failures": ["x"], "news": ["x"]}),
        (unseen("x"), {"x": "indexed"}, {"listing_failures": ["x"], "unseen": ["x"]}),
        (unseen("x"), {"x": "pending"}, {"listing_failures": ["x"], "unseen": ["x"]}),
        (unseen("x"), {"x": "failed "}, {"listing_failures": ["x"]}),
        (unseen("x"), {"x": "pending "}, {"listing_failures": ["x"], "news": ["x"]}),
        (not_there("x"), {}, {"listing_failures": ["x"], "news": ["x"]}),
        (not_there("x"), {"x": "indexed"}, {"listing_failures": ["x"], "news": ["x"], "lost": 1}),
        (not_there("x"), {"x": "failed"}, {"listing_failures": ["x"], "news": ["x"], "lost": 1}),
        (not_there("x"), {"x": "failed "}, {"listing_failures": ["x"]}),
        (
            unseen("x/"),
            {"x__1": "indexed", "x__y__2": "indexed", "xy": "indexed"},
            {"listing_failures": ["x/"], "gone": ["xy"], "unseen": ["x/"]},
        ),
        (video("x"), {"x": "indexed", "y": "indexed", "b": "pending"}, {"unchanged": 1, "gone": ["b", "y"]}),
    ],
)
def test_one_video(listed: Listed, known: dict[str, str], expected: dict[str, object]) -> None:
    plan = compare([listed], knowing(**known))
    assert buckets(plan) == expected
    assert plan.found == 1


def test_failures_are_tried_again_on_request_only() -> None:
    listed = [video("a"), video("b"), video("c", "2")]
    known = knowing(a="failed", b="indexed", c="failed")
    assert buckets(compare(listed, known, retry_failed=True)) == {"changed": ["c"], "retry": ["a"], "unchanged": 1}
    assert buckets(compare(listed, known)) == {"changed": ["c"], "failed": ["a"], "unchanged": 1}


def test_what_failed_for_a_passing_reason_is_tried_again_unasked() -> None:
    known = knowing(a="failed", b="failed", c="failed 0")
    known["/a/a"] = replace(known["/a/a"], retry=True)
    known["/a/c"] = replace(known["/a/c"], retry=True)
    assert buckets(compare([video(name) for name in "abc"], known)) == {"changed": ["c"], "retry": ["a"], "failed": ["b"]}


def test_work_is_new_then_changed_then_retry() -> None:
    plan = compare([video("a"), video("b"), video("c")], knowing(a="failed", b="indexed 0"), retry_failed=True)
    assert plan.work == (video("c"), video("b"), video("a"))


def test_videos_of_other_sources_save_work_and_are_never_gone() -> None:
    listed = [video("a"), video("b", "2"), video("c")]
    elsewhere = knowing(a="indexed", b="indexed", z="indexed")
    plan = compare(listed, knowing(c="indexed"), elsewhere=elsewhere)
    assert buckets(plan) == {"changed": ["b"], "unchanged": 2, "adopted": ["a"]}
    check_missing(plan, known_count=1, missing_limit=0.0)


# Too much missing


@pytest.mark.parametrize(
    ("left", "known_count", "limit", "refused"),
    [
        (80, 100, 0.2, False),
        (79, 100, 0.2, True),
        (71, 100, 0.29, False),  # 0.29 x 100 is 28.999999999999996
        (99, 100, 0.0, True),
        (100, 100, 0.0, False),
        (1, 100, 1.0, False),
        (0, 100, 1.0, True),
        (0, 1, 0.2, True),
        (0, 0, 0.2, False),
    ],
)
def test_too_much_missing_at_once(left: int, known_count: int, limit: float, refused: bool) -> None:
    known = knowing(**{f"v{n}": "indexed" for n in range(known_count)})
    plan = compare([video(f"v{n}") for n in range(left)], known)
    assert len(plan.gone) == known_count - left
    if refused:
        with pytest.raises(SourceError):
            check_missing(plan, known_count, limit)
    else:
        check_missing(plan, known_count, limit)


def test_what_a_manifest_names_and_is_not_there_is_missing_too() -> None:
    known = knowing(**{f"v{n}": "indexed" for n in range(10)})
    plan = compare([*(video(f"v{n}") for n in range(7)), *(not_there(f"v{n}") for n in range(7, 9))], known)
    check_missing(plan, 10, 0.3)
    with pytest.raises(SourceError, match="3 of 10 known videos are no longer in the source"):
        check_missing(plan, 10, 0.2)


def test_the_sentences() -> None:
    known = knowing(a="indexed", b="indexed", c="indexed")
    with pytest.raises(SourceError) as error:
        check_missing(compare([video("a")], known), 3, 0.2)
    assert str(error.value) == (
        "2 of 3 known videos are no longer in the source, more than source.missing_limit (20%) allows. Mount the missing disk;"
        " or, if they were deleted or excluded on purpose, raise source.missing_limit. Nothing was marked gone."
    )
    with pytest.raises(SourceError) as error:
        check_missing(compare([], known), 3, 1.0)
    assert str(error.value) == (
        "The source is empty, but 3 of its videos are known. Mount its disk, or correct source.uri. Nothing was marked gone."
    )


def test_a_source_of_which_nothing_can_be_read_is_not_empty() -> None:
    plan = compare([unseen("x/")], knowing(x__1="indexed", x__2="indexed"))
    assert plan.gone == ()
    check_missing(plan, known_count=2, missing_limit=0.0)


# For all listings

NAMES = st.sampled_from(["a", "b", "c", "d", "d/e", "d/f/g", "dd"])
FINGERPRINTS = st.sampled_from(["1", "2"])
STATES = st.sampled_from(["pending", "indexed", "failed", "skipped"])
LISTED = st.one_of(
    st.builds(video, NAMES, FINGERPRINTS),
    st.builds(skipped, NAMES, st.sampled_from(["symlink", "too_new"]), FINGERPRINTS),
    st.builds(not_there, NAMES),
    st.builds(unseen, st.one_of(NAMES, NAMES.map("{}/".format))),
)
LISTINGS = st.lists(LISTED, unique_by=lambda item: uri_of(item))
KNOWN = st.lists(st.builds(KnownVideo, NAMES.map("/a/{}".format), STATES, FINGERPRINTS), unique_by=lambda k: k.uri).map(
    lambda known: {k.uri: k for k in known}
)


def uri_of(item: Listed) -> str:
    return (item if isinstance(item, Video) else item.video).uri


def named(plan: Plan) -> list[str]:
    """The uris of all buckets that name theirs."""
    items: Iterable[Listed] = (*plan.work, *plan.listing_skips, *plan.listing_failures)
    return [uri_of(item) for item in items] + list(plan.failed)


@given(LISTINGS, KNOWN, KNOWN, st.booleans())
def test_every_listed_video_is_in_exactly_one_bucket(
    listed: list[Listed], known: dict[str, KnownVideo], elsewhere: dict[str, KnownVideo], retry_failed: bool
) -> None:
    plan = compare(listed, known, elsewhere=elsewhere, retry_failed=retry_failed)
    uris = {uri_of(item) for item in listed}
    assert len(named(plan)) == len(set(named(plan)))
    assert set(named(plan)) <= uris
    unnamed = uris - set(named(plan))
    assert len(unnamed) == plan.unchanged + plan.known_skips
    assert all((known.get(uri) or elsewhere[uri]).state in ("indexed", "skipped") for uri in unnamed)
    assert plan.found == len(uris)
    assert set(plan.gone) <= known.keys() - uris
    assert set(plan.adopted) <= unnamed - known.keys()
    assert set(plan.news) <= {*plan.listing_skips, *plan.listing_failures}
    assert set(plan.unseen) <= {*plan.listing_failures} - {*plan.news}
    hidden = {uri_of(failure) for failure in plan.listing_failures if uri_of(failure).endswith("/")}
    assert known.keys() - uris - set(plan.gone) == {
        uri for uri in known.keys() - uris if any(uri.startswith(folder) for folder in hidden)
    }


@given(LISTINGS, KNOWN, st.booleans(), st.data())
def test_a_finished_run_leaves_nothing_to_do(
    listed: list[Listed], known: dict[str, KnownVideo], retry_failed: bool, data: st.DataObject
) -> None:
    plan = compare(listed, known, retry_failed=retry_failed)
    ends = {v.uri: KnownVideo(v.uri, data.draw(STATES.filter("pending".__ne__)), v.fingerprint) for v in plan.work}
    for item in plan.news:
        state = "skipped" if isinstance(item, Skipped) else "failed"
        ends[uri_of(item)] = KnownVideo(uri_of(item), state, item.video.fingerprint)
    after = {uri: k for uri, k in known.items() if uri not in plan.gone} | ends
    again = compare(listed, after)
    assert again.work == ()
    assert again.news == ()
    assert again.gone == ()
    assert again.found == plan.found
