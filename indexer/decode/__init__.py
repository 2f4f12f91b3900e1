"""Videos in, clips out: probe -> sampling (which times) -> a reader (which frames) -> preprocess (which pixels) -> packs."""
