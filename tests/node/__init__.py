"""Tests of fl_app.node."""
