"""The search for votes that do not come from people who each say what they think: one statistic a file."""
