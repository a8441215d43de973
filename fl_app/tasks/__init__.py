"""What is learned: each task knows its network, its loss and its figures, and nothing of the federation."""
