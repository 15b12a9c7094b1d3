"""Decode, call a handler, encode."""
