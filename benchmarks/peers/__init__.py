"""The same work as `indexer run`, done as the documentation of other tools shows it. Each module is a program:

    python -m benchmarks.peers.NAME VIDEOS WEIGHTS OUT.parquet SEGMENT_SECONDS [CONTENDER]

Segments of SEGMENT_SECONDS, one clip of 16 frames at 15 fps in the middle of each, r3d_18: five labels and the embedding.
"""
