"""The store is what the model thinks it is: the same tests against the model's table and two other engines.

`tests/model` proves the rotation over `tests.support.dynamodb_model`. These tests say what every write of the package
promises under each condition, and run on the model, on MiniStack's DynamoDB and on DynamoDB Local, Amazon's own engine,
with the table that template.yaml deploys.
"""
