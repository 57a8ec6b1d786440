"""What the table keeps: connections, imports, attempts, links, histories; and the sealing of token sets."""
