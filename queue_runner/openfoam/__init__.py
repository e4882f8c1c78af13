"""What OpenFOAM's case folders say, for those who describe studies and for those who run them."""
