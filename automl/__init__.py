"""Who decides and who is asked: studies, searchers, fidelity, engines, tracking, command lines."""
