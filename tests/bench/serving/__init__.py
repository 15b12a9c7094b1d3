"""`make bench-serving`: Irisloop's serving beside Triton, MLServer and the bare runtime, on the same models."""
