"""The parts of the ledger's benchmark: what is killed, who votes, and who compares both sides."""
