"""Challenger against champion on live traffic: paired outcomes, tests that may be looked at any time, a verdict."""
