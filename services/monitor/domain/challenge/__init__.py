"""Challenger against champion while a rollout is under way: pairs of answers, anytime-valid tests, and a verdict."""
