"""One contract per seam, run over everything that implements it."""
