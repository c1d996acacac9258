"""TRL's trainers take what Heed exports: each learns a step from a file as it was written."""
