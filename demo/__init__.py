"""Everything the demonstration needs, made on the spot: drawn actions, a small archive of them, a model that knows them."""
