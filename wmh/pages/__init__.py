"""Pages of results that open from disk without a network: templates, and pictures put inside."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from PIL import Image as Picture


def write_page(path: Path, template: str, **values: object) -> Path:
    """Fill a template of this folder and write the page; it appears only when complete."""
    html = _environment().get_template(template).render(**values)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        temporary.write_text(html, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def as_webp(picture: Picture.Image, quality: int = 88) -> str:
    """A picture as base64 of a WebP file; a quality of 100 keeps every pixel as it is."""
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=quality, lossless=quality == 100, method=4)
    return base64.b64encode(encoded.getvalue()).decode()


def webp_address(content: str) -> str:
    """The data address of what :func:`as_webp` returns."""
    return f"data:image/webp;base64,{content}"


def number(value: float | None, decimals: int) -> str:
    """A number with so many decimals; a dash for what is not known."""
    return "–" if _unknown(value) else f"{float(value):.{decimals}f}".replace("-", "−")


def _unknown(value: float | None) -> bool:
    return value is None or bool(pd.isna(value) or np.isinf(value))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "webp": webp_address}
    return environment
