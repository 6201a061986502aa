"""Pages of results that open from disk without a network: templates, with pictures inside."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from PIL import Image as Picture

from wmh.files import complete


def write_page(path: Path, template: str, **values: object) -> Path:
    """Fill a template of this folder and write the page."""
    page = _environment().get_template(template).render(**values)
    with complete(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


@cache
def _environment() -> jinja2.Environment:
    """The environment that keeps compiled templates; compiling takes longer than filling them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "webp": webp_address}
    return environment


def as_webp(picture: Picture.Image, quality: int = 88) -> str:
    """A picture as base64 of a WebP file; quality 100 is lossless."""
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=quality, lossless=quality == 100, method=4)
    return base64.b64encode(encoded.getvalue()).decode()


def webp_address(content: str) -> str:
    """The data URL of a picture from :func:`as_webp`."""
    return f"data:image/webp;base64,{content}"


def number(value: float | None, decimals: int) -> str:
    """A number with so many decimals; a dash if it is missing or infinite."""
    if value is None or pd.isna(value) or np.isinf(value):
        return "–"
    return f"{float(value):.{decimals}f}".replace("-", "−")
