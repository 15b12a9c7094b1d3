"""From the spool to Kafka: in a process of its own, which takes only the time that inference leaves."""
