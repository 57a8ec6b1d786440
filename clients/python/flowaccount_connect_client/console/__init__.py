"""`flowaccount-connect console`: a page on this machine for support staff, with their own AWS credentials."""
