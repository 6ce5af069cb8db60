"""Benchmarks by name: the embedded suite, and the paper's from the installed mteb."""
