"""What was found, for people: words -> labels -> the moments in which they are seen."""

from indexer.search.moments import Moment, SearchResult, search

__all__ = ["Moment", "SearchResult", "search"]
