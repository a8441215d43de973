"""The checks of `fl-app doctor`, one function each."""
