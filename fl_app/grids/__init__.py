"""Many runs side by side: the document of a grid, what each run reached, means over seeds, tables and pictures."""
