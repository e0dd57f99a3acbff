"""Tests of trials.data."""
