"""`make deploy`: puts a stack into an AWS account, and says what is left to do by hand."""
