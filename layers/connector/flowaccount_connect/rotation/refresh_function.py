"""The `refresh` function as other functions ask it: to refresh a connection now, or to prove an import."""

import json
from typing import Any

from flowaccount_connect.domain.error_code import error_code
from flowaccount_connect.domain.log import Log

LONGEST_INVOCATION = 13.0
"""The longest that `refresh` is waited for, in seconds. It goes on without its caller, who then reads the table."""


class RefreshFunction:
    """Invokes `refresh` and waits for it. `client` is a Lambda client.

    Each invocation has a connection of its own. A kept one may have died while the sandbox was frozen. No second
    attempt follows, since it could take as long again.

    The result is in the table. A slow or failed invocation changes nothing, so no method raises. The code of the error
    is logged.
    """

    def __init__(self, client: Any, function: str, log: Log) -> None:
        self._client = client
        self._function = function
        self._log = log

    def refresh(self, connection_id: str, generation: int) -> int:
        """Refresh if the connection is still of `generation`.

        Returns the seconds before which FlowAccount is not to be asked again, where `refresh` says so, else 0.
        """
        return self._invoke({"connection_id": connection_id, "generation": generation})

    def prove(self, connection_id: str) -> None:
        """Prove the connection's import now, if nobody does already; else the schedule goes on with it."""
        self._invoke({"connection_id": connection_id, "import": True})

    def _invoke(self, payload: dict[str, object]) -> int:
        try:
            answer = self._client.invoke(
                FunctionName=self._function,
                InvocationType="RequestResponse",
                Payload=json.dumps(payload).encode(),
            )
            wait, code = json.loads(answer["Payload"].read()).get("retry_after"), answer.get("FunctionError")
        except Exception as error:
            wait, code = None, error_code(error)
        finally:
            self._client.close()
        if code is not None:
            self._log.warning(
                "refresh did not answer", extra={"connection_id": payload["connection_id"], "error": code}
            )
        return wait if isinstance(wait, int) and wait > 0 else 0
