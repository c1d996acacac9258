"""The workers: feedback to reward model to policy to proven adapter."""
