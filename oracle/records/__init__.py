"""Raw records as columns, and the oracle's verdict on each of them."""
