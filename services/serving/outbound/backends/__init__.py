"""What runs a model's batches; each implements `services.serving.domain.ports.Backend`."""
