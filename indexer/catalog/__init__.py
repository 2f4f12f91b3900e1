"""The SQL database that says what is known, done, failed and searchable.

`connect` opens it, `tables` says what is in it, `commit` is the only writer, `lookup` answers plan and status.
"""
