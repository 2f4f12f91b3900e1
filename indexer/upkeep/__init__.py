"""Keeping an index sound: where the catalog and the parts are looked at together. One module for each command.

check --repair      is every result there, and true?         gc --> sweep, compact     what is of no use any more
rebuild             the catalog, from the parts alone        forget                    one video, for good
"""
