"""The whole product as its users meet it: on the deployed local stack, with IAM enforced."""
