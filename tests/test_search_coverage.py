"""How much is indexed, in both databases: right after every change, and not counted without one."""

from __future__ import annotations

from sqlalchemy import Engine, event

from indexer.catalog.commit import claim, mark_gone
from indexer.catalog.connect import open_catalog
from indexer.search import search
from tests.test_search import A, indexed, store


def test_coverage_is_counted_again_only_when_something_has_changed(engine: Engine, catalog_url: str) -> None:
    counts: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_: object, __: object, statement: str, *___: object) -> None:
        if statement.startswith("SELECT count(*) FROM video"):
            counts.append(statement)

    def covered() -> tuple[int, int]:
        """Videos, and how often they were counted for it."""
        counts.clear()
        return search(engine, "yoga", A.digest).coverage.videos, len(counts)

    run = store(engine, A, indexed("a.mp4", {"yoga": 0.9}))
    assert [covered(), covered(), covered()] == [(1, 1), (1, 0), (1, 0)]
    claim(engine, run, "/archive", [indexed("b.mp4", {}).video])
    assert [covered(), covered()] == [(2, 1), (2, 0)]
    elsewhere = open_catalog(catalog_url, create=False)
    assert elsewhere is not None
    mark_gone(elsewhere, run, ["/archive/b.mp4"])
    elsewhere.dispose()
    assert [covered(), covered()] == [(1, 1), (1, 0)]
