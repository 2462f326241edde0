"""Strokes over a picture: a transparent canvas that is larger than a small picture.

It is laid over the picture once: edges are smooth and widths fractional at every size.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

Picture = UInt8[np.ndarray, "H W 3"]
Colour = tuple[int, int, int, int]
"""Red, green, blue, alpha; the first three already multiplied by alpha."""

_SIDE = 1500  # The canvas is no longer than that, unless the picture is.
_FONT = cv2.FONT_HERSHEY_DUPLEX


class Canvas:
    """A transparent, premultiplied RGBA layer over an image, `zoom` times its size."""

    def __init__(self, image: np.ndarray):
        check(image)
        self.image = image
        height, width = image.shape[:2]
        self.reference = float(np.sqrt(height * width))
        self.zoom = int(np.clip(_SIDE // max(height, width), 1, 8))
        self.layer = np.zeros((height * self.zoom, width * self.zoom, 4), np.uint8)
        self._plates: list[
            tuple[int, int, int, int]
        ] = []  # Left, top, right and bottom of each label.

    def _point(self, point: np.ndarray) -> tuple[int, int]:
        x, y = np.round(((np.asarray(point) + 0.5) * self.zoom - 0.5) * 16).astype(int).tolist()
        return x, y

    def _width(self, width: float) -> int:
        return max(1, round(width * self.zoom))

    def line(self, start: np.ndarray, end: np.ndarray, colour: Colour, width: float) -> None:
        """A line; points and widths are in the image's pixels, here and below."""
        points = self._point(start), self._point(end)
        cv2.line(self.layer, *points, colour, self._width(width), cv2.LINE_AA, shift=4)

    def disc(self, centre: np.ndarray, radius: float, colour: Colour, ring: float = 0) -> None:
        """A filled disc, or a ring of that width."""
        size, thickness = round(radius * self.zoom * 16), self._width(ring) if ring else -1
        cv2.circle(self.layer, self._point(centre), size, colour, thickness, cv2.LINE_AA, shift=4)

    def box(self, box: np.ndarray, colour: Colour, width: float) -> None:
        """The outline of `(x0, y0, x1, y1)`."""
        corners = self._point(box[:2]), self._point(box[2:])
        cv2.rectangle(self.layer, *corners, colour, self._width(width), cv2.LINE_AA, shift=4)

    def label(
        self, text: str, x: float, y: float, size: float, *, ink: Colour, plate: Colour
    ) -> None:
        """Text on a plate whose lower left corner is at (x, y), moved into the picture.

        A plate that would cover another one moves up or down by up to three lines.
        """
        scale = size * self.zoom / cv2.getTextSize("0", _FONT, 1.0, 1)[0][1]
        thickness = max(1, round(size * self.zoom / 11))
        (width, height), _ = cv2.getTextSize(text, _FONT, scale, thickness)
        pad = max(1, round(0.35 * size * self.zoom))
        bottom, right = self.layer.shape[:2]
        width, height = width + 2 * pad, height + 2 * pad
        left = int(np.clip(x * self.zoom, 0, max(0, right - width)))
        for lines in (0, -1, 1, -2, 2, -3, 3, 0):
            y_top = y * self.zoom - height + lines * (height + 1)
            top = int(np.clip(y_top, 0, max(0, bottom - height)))
            corner = left + width, top + height
            if not any(
                left <= x1 and x0 <= corner[0] and top <= y1 and y0 <= corner[1]
                for x0, y0, x1, y1 in self._plates
            ):
                break
        self._plates.append((left, top, *corner))
        cv2.rectangle(self.layer, (left, top), corner, plate, cv2.FILLED)
        origin = (left + pad, corner[1] - pad)
        cv2.putText(self.layer, text, origin, _FONT, scale, ink, thickness, cv2.LINE_AA)

    def flatten(self, opacity: float = 1.0) -> Picture:
        """The image with the layer over it."""
        out = self.image.copy()
        height, width = out.shape[:2]
        layer = cv2.resize(self.layer, (width, height), interpolation=cv2.INTER_AREA)
        x, y, w, h = cv2.boundingRect(np.ascontiguousarray(layer[..., 3]))
        part = layer[y : y + h, x : x + w].astype(np.float32) * opacity
        below = out[y : y + h, x : x + w] * (1 - part[..., 3:] / 255)
        out[y : y + h, x : x + w] = np.clip(np.round(below + part[..., :3]), 0, 255)
        return out


def check(image: np.ndarray) -> None:
    """Raises a ValueError that says what to do if the image is not uint8 RGB [H, W, 3]."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        hint = ""
        if image.ndim == 2 or image.shape[-1:] == (1,):
            hint = "; a greyscale picture becomes one with cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)"
        elif image.shape[-1:] == (4,):
            hint = "; drop the alpha channel with image[..., :3]"
        elif np.issubdtype(image.dtype, np.floating):
            hint = "; scale to 0..255 and convert with astype(np.uint8)"
        raise ValueError(
            f"the image must be uint8 RGB [H, W, 3], got {image.dtype} {list(image.shape)}{hint}"
        )
