"""The HTTP routes, a file for each thing they are about."""
