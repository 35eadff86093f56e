"""The servers, a process each: `python -m benchmarks.servers.<system> PATH LOOP`."""
