"""Which head ships, with which prior, how sure that must be, and which test says "I do not know"."""
