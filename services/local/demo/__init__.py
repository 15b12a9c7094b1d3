"""The demo: an outside user who runs the whole loop on real images and measures what it does.

It starts the one-machine deployment, sends frames with a Kafka client, calls inference with tritonclient, plays the
annotators, and reads everything else from topics and APIs. No service knows that it is being watched.
"""
