"""The search against its peers under a virtual clock: tasks, methods, the simulator and the figures (python -m bench.search)."""
