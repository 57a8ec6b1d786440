"""What the deployed functions take, beside boto3 alone and what one would write instead: `make bench`."""
