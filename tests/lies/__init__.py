"""Lies of one site about every field of every message, made from what an honest site sends."""
