"""Pictures of pages for the documents."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

from playwright.sync_api import Page

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


def take_picture(page: Page, file: Path, *, is_dark: bool = False, tolerated: float = 0) -> None:
    """Writes a picture of a page, unless the one that is there shows the same.

    *tolerated*: the share of pixels that may differ, on a page with times and plots of what happened.
    """
    page.emulate_media(color_scheme="dark" if is_dark else "light")
    picture = page.screenshot(animations="disabled", caret="hide")
    if not file.exists() or _difference(page, file.read_bytes(), picture) > tolerated:
        file.write_bytes(picture)


def _difference(page: Page, *pictures: bytes) -> float:
    """The share of the pixels that differ between two pictures."""
    blank = page.context.new_page()
    share = blank.evaluate(_SHARE_OF_DIFFERENT_PIXELS, [base64.b64encode(each).decode() for each in pictures])
    blank.close()
    return float(share)
