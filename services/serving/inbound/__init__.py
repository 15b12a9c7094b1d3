"""The roads into serving: topics, the Open Inference Protocol, ServingService, HTTP."""
