"""Indexed videos -> one Parquet file. `schema` says what is in it, `parquet` makes it."""
