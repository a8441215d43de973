"""The experiment on training: which options train the best models, each searched with the same budget."""
