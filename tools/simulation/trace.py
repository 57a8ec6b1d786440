"""What happens to everybody alike: who connects when, who reads how often, and what breaks.

A trace is made of a seed. Every policy lives through the same one. Where policies are compared, no trouble swallows an
answer that carries new tokens: such a token is lost whatever the policy. Those troubles have a trace of their own
(`HOSTILE`), which only our stack lives through.
"""

import math
import random
from dataclasses import dataclass, field
from enum import StrEnum

HOUR = 3_600
DAY = 86_400
START = 1_800_000_000
"""The epoch second at which every simulation begins."""

LIFETIME = DAY
"""Of access and refresh token alike, from the token request; in seconds."""


class Trouble(StrEnum):
    """What can be wrong for a while."""

    OUTAGE = "outage"
    """FlowAccount answers nothing of use; nothing that is sent is processed."""
    SLOW = "slow"
    """FlowAccount takes 4 to 12 seconds for an answer."""
    LIMITED = "limited"
    """FlowAccount accepts a part of the usual rate, and says `Retry-After`."""
    LIMITED_SILENTLY = "limited_silently"
    """The same without `Retry-After`."""
    CRASHES = "crashes"
    """One batch of refreshes in five dies before it sends anything."""
    PAUSED = "paused"
    """The scheduler does not run."""
    TABLE = "table"
    """What connections are stored in cannot be reached."""
    BROWN_OUT = "brown_out"
    """FlowAccount processes everything, and no answer arrives. Who sends a token then has lost it."""
    REFUSING = "refusing"
    """FlowAccount refuses every refresh token (`invalid_grant`), without reason."""
    FLOOD = "flood"
    """Callers, imports and callbacks with invented codes ask for permits all the time."""


@dataclass(frozen=True, slots=True)
class Period:
    """One trouble. `begin` and `end` in epoch seconds; `share` is what is left of the rate where it is limited."""

    trouble: Trouble
    begin: float
    end: float
    share: float = 1.0


def _hours(day: int, hour: float, hours: float, trouble: Trouble, share: float = 1.0) -> Period:
    begin = START + day * DAY + hour * HOUR
    return Period(trouble, begin, begin + hours * HOUR, share)


MONTH = (
    _hours(2, 9, 1, Trouble.OUTAGE),
    _hours(4, 13, 3, Trouble.LIMITED_SILENTLY, 0.5),
    _hours(6, 22, 6, Trouble.OUTAGE),
    _hours(8, 8, 4, Trouble.SLOW),
    _hours(10, 1, 17, Trouble.PAUSED),
    _hours(12, 20, 12, Trouble.OUTAGE),
    _hours(14, 10, 2, Trouble.LIMITED, 0.5),
    _hours(16, 3, 17, Trouble.TABLE),
    _hours(17, 15, 2, Trouble.CRASHES),
    _hours(18, 12, 0.5, Trouble.LIMITED, 0.0),
    _hours(20, 16, 17, Trouble.OUTAGE),
    _hours(23, 9, 2, Trouble.CRASHES),
    _hours(23, 9, 3, Trouble.SLOW),
    _hours(25, 2, 3, Trouble.PAUSED),
    _hours(25, 5, 4, Trouble.LIMITED_SILENTLY, 0.6),
    _hours(27, 0, 1, Trouble.OUTAGE),
    _hours(27, 1, 1, Trouble.LIMITED, 0.3),
    _hours(28, 0, 17, Trouble.LIMITED_SILENTLY, 0.0),
)
"""What goes wrong in thirty days."""

SHORT = (
    _hours(1, 6, 1, Trouble.OUTAGE),
    _hours(1, 9, 1, Trouble.LIMITED_SILENTLY, 0.5),
    _hours(1, 11, 0.25, Trouble.TABLE),
    _hours(1, 13, 1, Trouble.CRASHES),
    _hours(1, 15, 1, Trouble.LIMITED, 0.5),
    _hours(1, 17, 1, Trouble.SLOW),
    _hours(1, 22, 17, Trouble.OUTAGE),
    _hours(3, 2, 3, Trouble.PAUSED),
    _hours(4, 0, 17, Trouble.LIMITED_SILENTLY, 0.0),
    _hours(5, 12, 17, Trouble.PAUSED),
    _hours(7, 0, 17, Trouble.TABLE),
)
"""The same in nine days, for CI."""


HOSTILE = (
    _hours(2, 9, 1 / 6, Trouble.BROWN_OUT),
    _hours(3, 9, 1 / 60, Trouble.REFUSING),
    _hours(4, 8, 6, Trouble.BROWN_OUT),
    _hours(6, 9, 6, Trouble.FLOOD),
    _hours(7, 9, 1, Trouble.FLOOD),
    _hours(7, 9.5, 1 / 6, Trouble.BROWN_OUT),
    _hours(7, 20, 1, Trouble.REFUSING),
)
"""Ten days in which others are the trouble: lost answers, false refusals, and floods of visitors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A connection as it comes. `token_age` is how old its refresh token is by then: an imported one is not new."""

    at: float
    number: int
    token_age: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One trace. `connections` and rates per minute; `accepted` is what FlowAccount accepts of one client."""

    name: str
    seed: int
    connections: int
    days: int
    refreshes_per_minute: int
    """What our stack is set to."""
    accepted: int | None
    """Requests in any minute that the server lets through; `None`: it does not count."""
    troubles: tuple[Period, ...] = ()
    bulk: float = 0.2
    """The share that is connected within one minute."""
    imported: float = 0.05
    """The share that is brought from elsewhere, with tokens up to 12 hours old."""
    alone: float = 0.0
    """The share whose refreshes FlowAccount refuses for ever from their second day on, while it accepts all others."""
    newcomers: tuple[Newcomer, ...] = field(init=False, repr=False)
    reads: tuple[tuple[float, float], ...] = field(init=False, repr=False)
    """For each connection the period of its reads and their phase, in seconds; a period of 0: nobody reads it."""

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)  # noqa: S311 - repeatable, nothing secret
        bulk_at = START + 0.6 * DAY
        newcomers, reads = [], []
        for number in range(self.connections):
            dice = chance.random()
            if dice < self.bulk:
                newcomers.append(Newcomer(at=bulk_at + chance.random() * 60, number=number))
            else:
                age = chance.random() * 12 * HOUR if dice < self.bulk + self.imported else 0.0
                newcomers.append(Newcomer(at=START + chance.random() * DAY, number=number, token_age=age))
            dice = chance.random()
            period = 0.0  # Two in five: idle.
            if dice < 0.4:  # Busy: every quarter of an hour to every two hours.
                period = 900 * math.exp(chance.random() * math.log(8))
            elif dice < 0.6:  # A job that runs once a day.
                period = DAY
            reads.append((period, chance.random() * period))
        newcomers.sort(key=lambda newcomer: newcomer.at)
        object.__setattr__(self, "newcomers", tuple(newcomers))
        object.__setattr__(self, "reads", tuple(reads))

    @property
    def end(self) -> float:
        """The epoch second at which the simulation ends."""
        return START + self.days * DAY

    @property
    def brown_outs(self) -> list[Period]:
        """The times in which answers are lost."""
        return [period for period in self.troubles if period.trouble is Trouble.BROWN_OUT]

    def periods(self, *troubles: Trouble) -> "Calendar":
        """When one of these troubles is there."""
        return Calendar([period for period in self.troubles if period.trouble in troubles])


class Calendar:
    """Tells whether one of some periods is on; asked with times that hardly ever go back."""

    def __init__(self, periods: list[Period]) -> None:
        self._periods = sorted(periods, key=lambda period: period.begin)
        self._known: tuple[float, float, Period | None] = (math.inf, -math.inf, None)
        """Between these two no period begins or ends, and this one is on."""

    def at(self, now: float) -> Period | None:
        """The period that is on at `now`, the one that began last where they overlap."""
        begin, end, on = self._known
        if begin <= now < end:
            return on
        edges = [-math.inf, math.inf] + [edge for period in self._periods for edge in (period.begin, period.end)]
        on = next((period for period in reversed(self._periods) if period.begin <= now < period.end), None)
        self._known = (max(edge for edge in edges if edge <= now), min(edge for edge in edges if edge > now), on)
        return on
