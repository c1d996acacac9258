"""What the benchmark of the gate plants."""
