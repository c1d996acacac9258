"""Gateways for all of these tests."""

from __future__ import annotations

from tests.gateways import base, fake, up

__all__ = ["base", "fake", "up"]
