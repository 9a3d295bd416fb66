"""Named, typed collections of plug-in objects: methods, probing data sets, evaluators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from miscible.errors import MiscibleError, UnknownNameError, did_you_mean

T = TypeVar("T")

ENTRY_POINT_GROUP = "miscible"
"""Third-party packages list modules under this entry-point group; importing one registers its
objects through the same decorators that our own modules use."""


class Registry(Generic[T]):
    """Objects of one kind by name.

    Args:
        kind: what the objects are, for messages ("merge method").
        modules: modules of ours that register objects of this kind when they are imported; they
            are imported at the first look-up, so that an unused verb costs nothing.
    """

    def __init__(self, kind: str, modules: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self._modules = modules
        self._objects: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str, obj: T) -> T:
        """Add *obj* under *name*; a second object under the same name is an error."""
        held = self._objects.get(name)
        if held is not None and held is not obj:
            raise MiscibleError(
                f"two {self.kind}s are named {name!r}: {_origin(held)} and {_origin(obj)}.",
                fix="Rename one of them.",
            )
        self._objects[name] = obj
        return obj

    def get(self, name: str) -> T:
        """Return the object of that name, or raise `UnknownNameError` with a suggestion."""
        self._load_own()
        if name not in self._objects:  # looking for plug-ins takes as long as a small merge
            self._load()
        try:
            return self._objects[name]
        except KeyError:
            raise UnknownNameError(
                f"there is no {self.kind} named {name!r}.", fix=did_you_mean(name, self._objects)
            ) from None

    def names(self) -> list[str]:
        """Return all names in alphabetical order."""
        self._load()
        return sorted(self._objects)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._objects

    def __iter__(self) -> Iterator[T]:
        return iter([self._objects[name] for name in self.names()])

    def _load(self) -> None:
        self._load_own()
        load_plugins()

    def _load_own(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for module in self._modules:
            import_module(module)


_plugins_loaded = False


def load_plugins() -> None:
    """Import every module that an installed package lists in the ``miscible`` group, once."""
    global _plugins_loaded
    if _plugins_loaded:
        return
    _plugins_loaded = True
    for point in entry_points(group=ENTRY_POINT_GROUP):
        point.load()


def _origin(obj: object) -> str:
    function: Callable[..., object] | object = getattr(obj, "function", obj)
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{getattr(named, '__qualname__', '?')}"
