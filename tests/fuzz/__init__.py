"""Targets that throw damaged and random input at whatever reads from outside: `make fuzz` for ten minutes each."""
