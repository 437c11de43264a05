"""Pictures of pages for the documents."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Page

Scheme = Literal["light", "dark"]

_SHARE_OF_DIFFERENT_PIXELS: Final = """
    async pictures => {
        const [one, other] = await Promise.all(pictures.map(async picture => {
            const answer = await fetch(`data:image/png;base64,${picture}`)
            return createImageBitmap(await answer.blob())
        }))
        if (one.width !== other.width || one.height !== other.height) return 1
        const [before, now] = [one, other].map(image => {
            const context = new OffscreenCanvas(image.width, image.height).getContext('2d')
            context.drawImage(image, 0, 0)
            return new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer)
        })
        return before.reduce((different, pixel, place) => different + (pixel !== now[place]), 0) / before.length
    }
"""


def take_pictures(page: Page, files: Mapping[Scheme, Path], *, tolerated: float = 0) -> None:
    """Writes pictures of a page in light or dark, unless the stored pictures show the same.

    *tolerated*: the share of pixels that may differ, on a page with times and plots.
    """
    taken: dict[Path, bytes] = {}
    for scheme, file in files.items():
        page.emulate_media(color_scheme=scheme)
        taken[file] = page.screenshot(animations="disabled", caret="hide")
    if any(not file.exists() or _difference(page, file.read_bytes(), now) > tolerated for file, now in taken.items()):
        for file, now in taken.items():
            file.write_bytes(now)


def _difference(page: Page, *pictures: bytes) -> float:
    """The share of the pixels that differ between two pictures."""
    blank = page.context.new_page()
    share = blank.evaluate(_SHARE_OF_DIFFERENT_PIXELS, [base64.b64encode(each).decode() for each in pictures])
    blank.close()
    return float(share)
