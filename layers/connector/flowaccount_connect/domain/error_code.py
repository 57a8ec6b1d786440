"""The code of an AWS error. Only the code may be logged: an SDK's message can quote parameters."""


def error_code(error: Exception) -> str:
    """The code of an error response (`ThrottlingException`); without a response, the name of the exception's type."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("Error", {}).get("Code")
        if isinstance(found, str) and found:
            return found
    return type(error).__name__
