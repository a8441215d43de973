"""What crosses the wire: typed values, the only spelling of record keys, and arrays packed for the way."""
