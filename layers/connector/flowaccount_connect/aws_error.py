"""What may be said of an error of AWS: its code. The SDK's own messages can quote what they were given."""


def code(error: Exception) -> str:
    """The code of an error response (`ThrottlingException`), or the exception's type where there was no response."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("Error", {}).get("Code")
        if isinstance(found, str) and found:
            return found
    return type(error).__name__
