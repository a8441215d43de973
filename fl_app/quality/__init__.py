"""How good generated images are, measured beside the real images of the sites."""
