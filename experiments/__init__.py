"""Experiments whose results lie in docs/results/: `python -m experiments.<name> --help`."""
