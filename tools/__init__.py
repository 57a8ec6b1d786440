"""What serves development: the product imports none of it."""
