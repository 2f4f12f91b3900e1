"""Copies of embeddings that `indexer similar` keeps on this machine go with the parts that they were made of."""

from __future__ import annotations

from sqlalchemy import Engine

from indexer.catalog.connect import reading
from indexer.catalog.parts import list_parts
from indexer.search.shards import Shards


def keep_live_shards(engine: Engine, shards: Shards) -> None:
    """Remove those of parts that are no longer live. Other machines do that themselves with their next search."""
    with reading(engine) as connection:
        live = [part.sha256 for part in list_parts(connection) if part.state == "live"]
    shards.keep(live)
