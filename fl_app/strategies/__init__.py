"""Mixins placed before Flower's strategies in the MRO: check replies, average them as they arrive, resume runs."""
