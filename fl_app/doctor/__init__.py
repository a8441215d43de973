"""What `fl-app doctor` looks at, one small function a check."""
