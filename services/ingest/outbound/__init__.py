"""The roads out: the database with its outbox."""
