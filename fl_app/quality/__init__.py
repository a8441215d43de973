"""How good generated images are: the networks whose features are compared, and what a classifier learns from them."""
