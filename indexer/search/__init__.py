"""What was found, for people: words -> labels -> the moments in which they are seen."""

from indexer.search.answer import SearchResult, search
from indexer.search.coverage import Coverage
from indexer.search.moments import Moment
from indexer.search.videos import FoundVideo, Sort

__all__ = ["Coverage", "FoundVideo", "Moment", "SearchResult", "Sort", "search"]
