"""Tests of bench/: a benchmark that compares wrong answers is worth nothing."""
