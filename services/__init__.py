"""Irisloop: the closed loop that keeps computer-vision models right after they go live."""
