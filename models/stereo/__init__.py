"""Networks that see a rectified pair of images."""
