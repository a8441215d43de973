"""Classification: networks, the sums that nodes measure, and the heads built from them."""
