"""What every service shares: the bus, the database with its outbox, settings, telemetry and the runtime.

Nothing here names a thing of the domain, imports a service, or imports a machine-learning library.
"""
