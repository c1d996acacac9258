"""The commands of `heed`, a file a subject; each imports its own work when it is called."""
