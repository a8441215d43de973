"""Options of a run and of a node, checked where they enter the program."""
