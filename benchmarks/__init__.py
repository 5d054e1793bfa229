"""Benchmarks: ours, what people could use instead, and the physical limit, measured in turn in one run."""
