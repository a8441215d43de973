"""The Python interface behind the names in `fl_app`."""
