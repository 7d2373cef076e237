"""From attenuation to grey values: scatter, detector noise, blur, window, borders.

White is high attenuation, as radiologists view images.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from medground.phantom.beam import Array, Beam
from medground.phantom.patient import Exposure


def enlarge(coarse: Array, width: int, height: int) -> Array:
    """Return a coarse map at image size (bicubic)."""
    if coarse.shape == (height, width):
        return coarse.astype(np.float32)
    image = Image.fromarray(np.ascontiguousarray(coarse, np.float32), mode="F")
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def blurred(image: Array, sigma: float) -> Array:
    """Return the image after a Gaussian blur; wide blurs are computed on a smaller copy."""
    if sigma < 0.25:
        return image
    factor = int(sigma // 3)
    if factor < 2:
        result: Array = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3)
        return result
    height, width = image.shape
    small = Image.fromarray(np.ascontiguousarray(image, np.float32), mode="F").resize(
        (max(1, width // factor), max(1, height // factor)), Image.Resampling.BOX
    )
    low = ndimage.gaussian_filter(np.asarray(small), sigma / factor, mode="nearest", truncate=3)
    return enlarge(low, width, height)


def develop(rng: np.random.Generator, attenuation: Array, beam: Beam, exposure: Exposure) -> Array:
    """Return (H, W) brightness, about 0 to 1 and not yet clipped, of an attenuation map."""
    primary = np.exp(-np.clip(attenuation, 0, 9))
    scatter = blurred(primary, 4.5 * beam.scale) * exposure.scatter
    energy = blurred(primary, exposure.blur * beam.scale) + scatter + 0.004
    grain = exposure.noise * rng.standard_normal(energy.shape, dtype=np.float32)
    grain = blurred(grain, float(rng.uniform(0.3, 0.8))) * 1.4
    seen = -np.log(energy) + grain * np.sqrt(0.08 / energy)
    if exposure.sharpen > 0:
        seen = seen + exposure.sharpen * (seen - blurred(seen, 0.5 * beam.scale))
    if exposure.local > 0:
        seen = equalised(seen, exposure.local, 3.0 * beam.scale)
    return windowed(seen, attenuation > 0.6, exposure)


def equalised(seen: Array, strength: float, sigma: float) -> Array:
    """Return the image with weaker low frequencies, as the processing of digital images does."""
    slow = blurred(seen, sigma)
    result: Array = seen - strength * 0.55 * (slow - slow.mean())
    return result


def windowed(seen: Array, body: NDArray[np.bool_], exposure: Exposure) -> Array:
    """Return grey values between dark lung and bright abdomen, through the tone curve."""
    inside = seen[body] if body.any() else seen.ravel()
    dark, bright = np.percentile(inside[::7], [6, 98])
    t = (seen - dark) / max(bright - dark, 0.1)
    curve = np.clip(0.06 + 0.9 * t, 0, 1.15) ** exposure.gamma
    low, high = exposure.range
    direct = np.clip(1.3 + 2.5 * t, 0, 1)  # air outside the body is black even if the lungs are grey
    result: Array = direct * low + (high - low) * curve
    return result


def to_bytes(brightness: Array) -> NDArray[np.uint8]:
    """Return (H, W) uint8."""
    return (np.clip(brightness, 0, 1) * 255 + 0.5).astype(np.uint8)
