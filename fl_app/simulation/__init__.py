"""A simulated federation on this machine: its options, Flower and its processes, its result."""
