"""What `scripts/benchmark` measures, and how: sides take turns, only ratios of neighbouring turns count."""
