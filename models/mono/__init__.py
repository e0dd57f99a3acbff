"""Networks that see one image."""
