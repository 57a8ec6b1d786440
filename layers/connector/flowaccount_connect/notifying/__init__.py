"""Reaching systems and people outside AWS: signed webhooks, and short messages to Slack, LINE and a mailbox."""
