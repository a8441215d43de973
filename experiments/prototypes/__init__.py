"""Prototypes in the last round against the network's own last layer, over data sets, splits, rounds and seeds."""
