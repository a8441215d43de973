"""What a run folder tells: how a run stands, pictures and tables of it."""
