"""What registry writes to: its database and, through the outbox in it, the bus."""
