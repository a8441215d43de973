"""A simulated federation on this machine: what it shall do, Flower and its processes, how it ended."""
