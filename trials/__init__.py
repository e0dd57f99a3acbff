"""How one run happens: data, training, metrics, evaluation and inference of one spec."""
