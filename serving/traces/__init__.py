"""What a list was made from, kept for a share of the requests, and the list made again from it. Pure."""
