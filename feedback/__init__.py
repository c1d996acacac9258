"""The contract both sides share: events, ids, keys, the log, the registry, experiments and statistics.

Imports neither fastapi, celery nor torch, so that a gateway, a worker and a tool can all use it.
"""
