"""Tests of the examples: every command and every recipe runs."""
