"""Benchmarks: both sides in one process, the same answer first, turns taken, the ratio printed."""
