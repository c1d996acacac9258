"""Simulated votes: honest traffic with everything that looks like abuse and is none, and nine kinds of abuse."""
