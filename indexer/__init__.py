"""Find actions in large video archives: a batch job that turns videos into a searchable index."""

__version__ = "0.1.0"
