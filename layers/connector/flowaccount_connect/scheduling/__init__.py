"""When connections are refreshed: the sweep, the due index, the queue, and the rate."""
