"""Private images on their way to batches: sources, partition, loading, and the wall around a node."""
