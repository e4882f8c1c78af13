"""What containers are made of."""

#: Small, ours, and built where there is no registry.
IMAGE = "queue-runner/base:latest"
