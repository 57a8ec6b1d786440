"""The ways to people: Slack, LINE and e-mail.

- Slack: an incoming webhook (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks). Its URL is a
  secret. `&`, `<` and `>` are escaped.
- LINE: a push message to a group (https://developers.line.biz/en/reference/messaging-api/#send-push-message). The same
  `X-Line-Retry-Key` goes with each try of a message, so LINE sends it once; 409 says that it has been sent.
- E-mail: an SNS topic, to which the operator's address is subscribed. A subject is ASCII, so it is always English.

The secrets are JSON, or of Slack the URL alone. They are looked up for each message: there are few.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowaccount_connect.domain.error_code import error_code
from flowaccount_connect.notifying import signing
from flowaccount_connect.notifying.sending import Answer, Post
from flowaccount_connect.oauth.client_secret import SecretMisconfigured

SLACK, LINE, MAIL = "slack", "line", "mail"

LINE_URL = "https://api.line.me/v2/bot/message/push"


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """The ways to people that are configured. `secrets` is a client of Secrets Manager, `sns` one of SNS."""

    secrets: Any
    slack: str | None
    """The name of the secret with Slack's URL."""
    line: str | None
    """The name of the secret with LINE's token and group."""
    mail: str | None
    """The ARN of the mailbox's topic."""
    sns: Any
    """`None` without a mailbox."""
    post: Post

    @property
    def names(self) -> tuple[str, ...]:
        """Where each message goes."""
        return tuple(name for name, of in ((SLACK, self.slack), (LINE, self.line), (MAIL, self.mail)) if of)

    def deliver(self, to: str, subject: str, text: str, key: str) -> Answer | None:
        """Send a text one way; `None` if this way is configured no more. `key` is a UUID, the same for each try.

        Only a mail has a `subject`: up to 99 characters of ASCII.

        Raises `SecretMisconfigured`, `SecretUnavailable`.
        """
        if to not in self.names:
            return None
        if to == MAIL:
            return self._mail(subject, text)
        if to == SLACK:
            fields = self._fields(str(self.slack), "url")
            escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            return self.post(fields["url"], {}, json.dumps({"text": escaped}).encode())
        fields = self._fields(str(self.line), "channel_access_token", "to")
        headers = {"Authorization": f"Bearer {fields['channel_access_token']}", "X-Line-Retry-Key": key}
        body = {"to": fields["to"], "messages": [{"type": "text", "text": text}]}
        answer = self.post(fields.get("url", LINE_URL), headers, json.dumps(body).encode())
        return Answer(200) if answer.status == 409 else answer

    def _mail(self, subject: str, text: str) -> Answer:
        if self.sns is None:
            return Answer(None, "unexpected")
        try:
            answer = self.sns.publish(TopicArn=self.mail, Subject=subject, Message=text)
        except Exception as error:
            return Answer(None, error_code(error))
        return Answer(200) if answer.get("MessageId") else Answer(None, "no_answer")

    def _fields(self, name: str, *needed: str) -> Mapping[str, str]:
        text, _ = signing.read(self.secrets, name)
        if not text.startswith("{"):
            text = json.dumps({needed[0]: text})
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            fields = {}
        if not isinstance(fields, dict) or not all(_is_word(fields.get(one)) for one in {*needed, *fields}):
            raise SecretMisconfigured(f"the secret {name} must be JSON with {' and '.join(needed)}")
        return fields


def _is_word(value: object) -> bool:
    """Whether a value can stand in a header: printable ASCII without spaces."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and bool(value) and " " not in value
