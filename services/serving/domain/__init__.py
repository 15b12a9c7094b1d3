"""What serving knows without a network, a clock or a file."""
