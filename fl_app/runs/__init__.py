"""Run folders: what lies where, how a run is opened and resumed, and what is written while it goes on."""
