"""One HTML file that needs nothing else: its style, its scripts and its figures inside."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from miscible.errors import StoreError

if TYPE_CHECKING:
    from miscible.report.figure import ChartGroup


def document(template: str, groups: Mapping[str, ChartGroup], **context: Any) -> str:
    """Return a page as HTML.

    Args:
        template: name of its template.
        groups: its charts, by the name that the template gives them.
        context: what else the template shows.
    """
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), _resource("report.js")]
    environment = Environment(
        loader=PackageLoader("miscible.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment.get_template(template).render(
        **context,
        groups=groups,
        figures=figures_json(list(groups.values())),
        styles=Markup(_resource("report.css")),  # noqa: S704  our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704  our own and Plotly's
        script_hashes=[_hash(script) for script in scripts],
    )


def write_document(html: str, path: Path) -> None:
    """Write a page: beside *path* first, so that it is complete or absent.

    Raises:
        StoreError: if the file cannot be written.
    """
    try:
        _write(html, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"the report cannot be written: {reason}.", where=str(path)) from error


def breakable(text: str) -> Markup:
    """Return text whose lines may break after the separators that model names are made of."""
    parts = re.split(r"(?<=[_/+:-])|(?<=\.)(?!\d)", text)
    return Markup("<wbr>").join(parts)


def figures_json(groups: Sequence[ChartGroup]) -> Markup:
    """Return all figures as JSON that is inert inside a script element.

    No model name can close the element or open a comment: ``<``, ``>`` and ``&`` are written as
    escapes of JSON.
    """
    held = {
        chart.id: {**chart.figure, **({"views": chart.views} if chart.views else {})}
        for group in groups
        for chart in group.charts
    }
    text = json.dumps(rounded(held), allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  escaped above


def rounded(value: Any) -> Any:
    """Return plain nested data with its numbers cut to the five digits that a screen can show."""
    if isinstance(value, float):
        short = float(f"{value:.5g}")
        return int(short) if short.is_integer() else short
    if isinstance(value, Mapping):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return value


def _write(html: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(html)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _resource(name: str) -> str:
    return files("miscible.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
