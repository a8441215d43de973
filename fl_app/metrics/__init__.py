"""Figures of models, computed by the server from sums that nodes send."""
