"""Programs that measure the figures of docs/results.md: `python -m benchmarks.<name> --help`."""
