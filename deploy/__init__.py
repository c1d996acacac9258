"""On top of everything: the command line, the local launch, simulated users, and what goes to production."""
