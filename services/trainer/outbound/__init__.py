"""What trainer writes to and asks: its database, labeling, registry, and the processes of its runs."""
