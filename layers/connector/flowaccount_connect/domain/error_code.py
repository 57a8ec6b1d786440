"""What may be logged of an error of AWS: its code. An SDK's message can quote parameters."""


def error_code(error: Exception) -> str:
    """The code of an error response (`ThrottlingException`), or the exception's type where there was no response."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("Error", {}).get("Code")
        if isinstance(found, str) and found:
            return found
    return type(error).__name__
