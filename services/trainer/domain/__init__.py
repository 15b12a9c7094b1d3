"""Runs and what may happen to them: pure, no clock, torch or database."""
