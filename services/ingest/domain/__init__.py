"""What a frame is and what makes it good: pure, without clock, network, environment or logger."""
