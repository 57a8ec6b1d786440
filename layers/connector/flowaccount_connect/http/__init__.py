"""HTTP for the handlers: requests, problems, pages. Only handlers import it."""
