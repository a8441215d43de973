"""Tests of fl_app.runs."""
