"""Clips in, segments out: models (which network) -> weights (its numbers) -> classifier (runs it) -> segments (averages)."""
