"""Run folders: opened, written while a run goes on, and read."""
