"""What a run has to do: list the source, compare it with what is known, cut the work into units."""
