"""Models of the Hub, read by their headers: no weights are downloaded."""

from miscible.models.remote.hollow import hollow_snapshot
from miscible.models.remote.repository import HubFile, HubRepository, look_up
from miscible.models.remote.transport import RefusedError

__all__ = ["HubFile", "HubRepository", "RefusedError", "hollow_snapshot", "look_up"]
