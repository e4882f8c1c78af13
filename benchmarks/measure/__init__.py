"""What `benchmarks/bench.py` runs: contenders, each in a process of its own, and what comes of them."""
