"""How a business is connected: begin, callback, confirm, import."""
