"""Versions, gates, aliases: pure rules, no clock, network or database."""
