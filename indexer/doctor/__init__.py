"""Is everything there that a run needs? Each check looks at one thing, writes nothing that stays, and downloads nothing."""
