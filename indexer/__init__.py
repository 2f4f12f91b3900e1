"""Find actions in large video archives: a batch job that turns videos into a searchable index.

from indexer import Index              see `indexer.index`
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexer.index import Index, Moments
    from indexer.search import Moment
else:

    def __getattr__(name: str) -> object:
        """Only who asks for these waits for the database and numpy: `indexer --help` does not."""
        if name in __all__:
            from indexer import index

            return getattr(index, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Index", "Moment", "Moments"]
__version__ = "0.1.0"
