"""What an installation has to carry."""

from __future__ import annotations

from dataclasses import dataclass, fields

from headrace.streams.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Load:
    """A load, and what is assumed of it.

    Attributes
    ----------
    users
        Users of whom rows are kept: those with an event in the last 30 days.
    active_users
        Users who are active at the same time. Their rows are in memory, those of the others on the disk.
    items
        Items of the catalogue.
    events_per_s, requests_per_s
        Events, and lists that are asked for, a second.
    slots
        Slots of a list.
    countries
        Countries and age groups in which an item has events.
    quiet_events, quiet_lists
        Events and lists of a user who is not active, in a row.
    retention_days
        How long `events`, `impressions` and `examples` are kept; None: as ``headrace topics create`` sets it.
    replication
        Replicas of the topics.
    busy
        Share of a core that a worker may use on average.
    worker_gb
        Memory of a worker at most, GB; a role with more state has more workers.
    least
        Workers of each role that shares partitions, at least: 2, so that one may fail.
    """

    users: float
    items: float
    events_per_s: float
    requests_per_s: float
    active_users: float = 0.0
    slots: int = 20
    countries: int = 5
    quiet_events: float = 8.0
    quiet_lists: float = 2.0
    retention_days: float | None = None
    replication: int = 3
    busy: float = 0.6
    worker_gb: float = 8.0
    least: int = 2

    def checked(self) -> Load:
        """Return it, with the active users that were not given: one user in 50.

        Raises
        ------
        ConfigError
            A number makes no sense.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 <= value < 1e15:
                raise ConfigError(f"--{field.name.replace('_', '-')}: {value:g} makes no sense")
        if not 0 < self.busy <= 1:
            raise ConfigError("--busy: a share of a core, more than 0 and at most 1")
        if min(self.users, self.items, self.slots, self.countries, self.replication) < 1:
            raise ConfigError("users, items, slots, countries and replicas are at least 1")
        if self.worker_gb <= 0 or self.least < 1:
            raise ConfigError("a worker needs memory, and there is at least one")
        active = self.active_users or max(1.0, self.users / 50)
        if active > self.users:
            raise ConfigError("--active-users: there are not more active users than users")
        return Load(**{f.name: getattr(self, f.name) for f in fields(self)} | {"active_users": active})
