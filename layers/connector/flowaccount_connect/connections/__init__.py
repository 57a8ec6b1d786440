"""Managing connections: show, list, history, disconnect, import."""
