"""Code that runs inside a hospital: images, training, measuring, and the hospital's permissions."""
