"""Tests of the networks and of their weight files."""
