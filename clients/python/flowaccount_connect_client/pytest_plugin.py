"""The fixture `flowaccount_connect` for pytest: see `testing`."""

from collections.abc import Iterator

import pytest

from flowaccount_connect_client.testing import FakeFlowAccountConnect


@pytest.fixture
def flowaccount_connect() -> Iterator[FakeFlowAccountConnect]:
    """A fake of the stack, which answers in the place of the network during the test."""
    with FakeFlowAccountConnect().running() as fake:
        yield fake
