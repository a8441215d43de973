"""Figures that add up: what a node sends is a sum, the server adds the sums and then finishes."""
