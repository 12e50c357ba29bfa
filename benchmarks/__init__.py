"""What a result is held against: tabular benchmarks, published numbers, speed."""
