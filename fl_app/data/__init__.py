"""Private images on their way to batches: sources, splits, decoding, loading."""
