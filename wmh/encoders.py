"""Names of encoders, read from the source of their libraries, because importing takes seconds."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SMP, TIMM = "segmentation_models_pytorch", "timm"


def nearest_encoders(name: str) -> list[str]:
    """The three encoder names most similar to an unknown ``name``; empty if ``name`` is known.

    Encoders of timm are called ``tu-NAME``; a dot and the name of weights may follow.
    """
    known = _named(SMP, "encoders", r'^    "([\w.-]+)": \{')
    if name in known or not known:  # no names found: the library will check the name itself
        return []
    of_timm = {f"tu-{one}" for one in _named(TIMM, "models", r"^@register_model\ndef (\w+)")}
    if name.partition(".")[0] in of_timm:
        return []
    return get_close_matches(name, sorted(known | of_timm), 3, cutoff=0)


@cache
def _named(library: str, folder: str, pattern: str) -> frozenset[str]:
    """All names that a pattern finds in a library's folder; none if it is not installed."""
    specification = find_spec(library)
    if specification is None:  # networks that this package defines itself do not need it
        return frozenset()
    found = Path(specification.origin).with_name(folder).glob("*.py")
    texts = [file.read_text(encoding="utf-8") for file in sorted(found)]
    return frozenset(name for text in texts for name in re.findall(pattern, text, re.MULTILINE))
