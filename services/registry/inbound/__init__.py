"""The three roads into registry: finished runs, programs, people. Each decodes, calls a handler, encodes."""
