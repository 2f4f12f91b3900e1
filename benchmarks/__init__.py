"""Timings, each a module with a `main`. Run all with `make bench`, one with `python -m benchmarks NAME`.

Machines are noisy: contenders take turns in one run, medians are compared, and only ratios are worth quoting.
"""
