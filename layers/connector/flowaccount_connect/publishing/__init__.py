"""Events: what happened to connections, published on the bus and kept in histories."""
