"""All that runs inside a hospital: its images, training, measuring, and what it lets a run do."""
