"""What one would write instead of this stack: the same acts, with the libraries one would take for them.

Each program serves the token of a connection and refreshes connections of a queue, over the same table and key. They
are written as a good engineer would: clients and sessions made once and kept, tokens sealed under data keys of KMS that
are remembered, the new tokens stored on the condition that nobody else did, partial batch failures, a log line. What
they leave out is what this product is about: nothing claims a token before it is sent, so that two workers can spend
the same one, and nothing is paced, kept in a queue when the table is away, or published.
"""
