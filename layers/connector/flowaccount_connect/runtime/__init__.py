"""What a function starts with: settings, wiring, observability. Only handlers import it."""
