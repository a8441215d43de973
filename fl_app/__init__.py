"""Hospitals that may not share images train image models together."""
