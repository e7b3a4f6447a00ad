"""Expand, migrate, contract: schema upgrades while the previous release still runs."""

__version__ = "0.1.0.dev0"
