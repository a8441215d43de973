"""The report of a run: one HTML file, made of the documents in its folder."""
