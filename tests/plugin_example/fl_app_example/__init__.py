"""One plug-in of each kind for fl-app; docs/extending.md shows them."""
