"""Where work runs: submitit executors, cluster profiles, checkpointable jobs. Knows nothing of architecture search."""
