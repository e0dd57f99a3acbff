"""Image encoders that more than one network uses."""
