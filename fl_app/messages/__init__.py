"""Messages between server and nodes: typed values, record keys, and packed arrays."""
