"""Measurements that are run by hand: `python -m benchmarks` runs all, `python -m benchmarks.<name>` one.

A benchmark compares *systems*: ways to call code in another process. Each system has a client process of its own
(`driver.py`, on top of `systems/`), which keeps its server (`servers/`) and does *workloads* on request. The harness keeps
all of them up and has them take turns in short slices, so that whatever else the machine does hits all of them alike.
`bars` holds what was measured against what is wanted.
"""
