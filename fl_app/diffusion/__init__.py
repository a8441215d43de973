"""Class-conditional diffusion: network, noise process, sampling, and the pipeline that is exported."""
