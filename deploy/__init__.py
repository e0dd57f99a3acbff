"""How a checkpoint becomes a product: export, runtimes, parity, promotion."""
