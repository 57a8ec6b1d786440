"""The clients in other languages, each tested by its own language's tools."""
