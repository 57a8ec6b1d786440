"""How an import differs from a refresh: the answer must name the business, and its set is a connection's first."""

from dataclasses import dataclass, replace
from typing import Protocol

from flowaccount_connect.oauth.token_answer import Answer, Outcome
from flowaccount_connect.storage.connections import Rotated


class _Endpoint(Protocol):
    def refresh(self, refresh_token: str, client_secret: str, *, connection_id: str, budget: float) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Proving:
    """A token endpoint whose answer must name the business: nothing else says whose an imported token is."""

    endpoint: _Endpoint

    def refresh(self, refresh_token: str, client_secret: str, *, connection_id: str, budget: float) -> Answer:
        """Send the token; tokens of a business that is not told count as another's."""
        answer = self.endpoint.refresh(refresh_token, client_secret, connection_id=connection_id, budget=budget)
        if answer.outcome is Outcome.TOKENS and answer.tokens is not None and answer.tokens.support_code is None:
            return replace(answer, outcome=Outcome.WRONG_CONNECTION)
        return answer


class _Queue(Protocol):
    def send_import(
        self, connection_id: str, grant_id: str, attempt_id: str, environment: str, rotated: Rotated
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class ImportSalvage:
    """Where the set of an import goes that the table did not take."""

    queue: _Queue
    environment: str

    def send_rotation(
        self, connection_id: str, grant_id: str, generation: int, attempt_id: str, rotated: Rotated
    ) -> None:
        """Salvage the set; an import's is a connection's first. Raises `SalvageUnavailable`."""
        del generation
        self.queue.send_import(connection_id, grant_id, attempt_id, self.environment, rotated)
