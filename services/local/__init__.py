"""One machine: embedded Kafka, the supervisor of the six services, and what the command line does with them.

Nothing arrives and nothing leaves over Kafka here; state is processes, ports and logs under IRISLOOP_HOME.
"""
