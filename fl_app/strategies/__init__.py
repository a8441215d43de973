"""Flower's strategies with ours to the left of them: fit replies only, folded as they come, and a run that goes on."""
