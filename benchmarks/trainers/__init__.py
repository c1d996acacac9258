"""Heed's trainers and TRL's, each in a process of its own, in turns on the same machine."""
