"""The mathematics of the classifier: network, moments of its embeddings, heads built from them."""
