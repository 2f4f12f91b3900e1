"""The SQL database that says what is known, done, failed and searchable, in an SQLite file or in PostgreSQL.

`connect` opens it, `tables` says what is in it, `lease` lets one run of a job work at a time, `commit` is the only writer of
what is found, `known` answers a plan, `lookup` answers status, `live` says which rows other tools may believe.
"""
