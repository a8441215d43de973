"""Options: of a run, and of a node, read and checked at the door."""
