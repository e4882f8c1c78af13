"""Container images: the base that all of ours stand on, and how they are built from their folders."""
