"""Tests of fl_app.messages."""
