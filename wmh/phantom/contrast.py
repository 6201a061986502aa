"""From anatomy to images: tissue intensities, artefacts, bias field and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wmh.cohorts.scanners import VARIOUS, Scanner
from wmh.phantom.anatomy import Anatomy
from wmh.phantom.fields import FineGrid, on_every_second, smooth_field, soft_step
from wmh.phantom.lesions import Lesions


@dataclass(frozen=True)
class Contrast:
    """Intensities relative to white matter, and image quality, of one modality.

    ``lesion`` is the intensity at a lesion's core. ``noise`` is the standard deviation of the noise
    in a voxel, ``blur_mm`` the sigma of the in-plane blur, ``bias`` the standard deviation of the
    logarithm of the bias field, ``white_level`` the intensity of white matter in scanner units.
    """

    grey: float
    csf: float
    lesion: float
    noise: float
    blur_mm: float
    bias: float
    white_level: float
    corrected: float | None = None
    """Share of the bias field that the correction removes; None for 0.8 to 1."""


# for each scanner: grey, csf and lesion core relative to white matter; noise in a native voxel
FLAIR_OF_SCANNER = {
    "utrecht_philips_3t": (1.20, 0.25, 1.70, 0.030),
    "singapore_siemens_3t": (1.22, 0.22, 1.66, 0.035),
    "amsterdam_ge_3t": (1.15, 0.20, 1.53, 0.040),
    "amsterdam_ge_1p5t": (1.18, 0.30, 1.57, 0.050),
    "amsterdam_philips_3t": (1.13, 0.16, 1.48, 0.045),
}
T1_OF_SCANNER = {
    "utrecht_philips_3t": (0.68, 0.22, 0.64, 0.025),
    "singapore_siemens_3t": (0.63, 0.22, 0.60, 0.025),
    "amsterdam_ge_3t": (0.68, 0.18, 0.62, 0.030),
    "amsterdam_ge_1p5t": (0.74, 0.28, 0.70, 0.045),
    "amsterdam_philips_3t": (0.64, 0.16, 0.60, 0.030),
}


def draw_flair_contrast(generator: np.random.Generator, scanner: Scanner) -> Contrast:
    """FLAIR contrast of one subject: the scanner's, varied more than on a real scanner."""
    if scanner.name == VARIOUS.name:
        return _draw_any_flair_contrast(generator)
    grey, csf, lesion, noise = FLAIR_OF_SCANNER[scanner.name]
    grey = float(np.clip(generator.normal(grey, 0.07), 1.0, 1.5))
    lesion = float(np.clip(generator.normal(lesion, 0.16), 1.16 * grey, 2.4))
    return Contrast(
        grey=grey,
        csf=float(np.clip(generator.normal(csf, 0.08), 0.04, 0.6)),
        lesion=lesion,
        noise=noise * generator.lognormal(0, 0.35),
        blur_mm=generator.uniform(0.3, 1.0),
        bias=generator.uniform(0.05, 0.25),
        white_level=_log_uniform(generator, 90, 1200),
    )


def draw_t1_contrast(generator: np.random.Generator, scanner: Scanner) -> Contrast:
    """T1 contrast of one subject, varied in the same way."""
    if scanner.name == VARIOUS.name:
        return _draw_any_t1_contrast(generator)
    grey, csf, lesion, noise = T1_OF_SCANNER[scanner.name]
    grey = float(np.clip(generator.normal(grey, 0.06), 0.5, 0.92))
    return Contrast(
        grey=grey,
        csf=float(np.clip(generator.normal(csf, 0.07), 0.04, 0.9 * grey)),
        lesion=float(np.clip(generator.normal(lesion, 0.10), 0.3, 0.9)),
        noise=noise * generator.lognormal(0, 0.35),
        blur_mm=generator.uniform(0.3, 0.9),
        bias=generator.uniform(0.05, 0.25),
        white_level=_log_uniform(generator, 120, 1500),
    )


def _draw_any_flair_contrast(generator: np.random.Generator) -> Contrast:
    """FLAIR contrast of any scanner and protocol, from very weak to strong."""
    grey = generator.uniform(1.0, 1.45)
    return Contrast(
        grey=grey,
        csf=generator.uniform(0.04, 0.6),
        lesion=grey * generator.uniform(1.08, 1.75),
        noise=_log_uniform(generator, 0.01, 0.08),
        blur_mm=generator.uniform(0.3, 1.2),
        bias=generator.uniform(0.03, 0.3),
        white_level=_log_uniform(generator, 90, 1200),
        corrected=generator.uniform(0, 1),
    )


def _draw_any_t1_contrast(generator: np.random.Generator) -> Contrast:
    """T1 contrast of any scanner and protocol, from spin echo to inversion recovery."""
    grey = generator.uniform(0.5, 0.95)
    csf = grey * generator.uniform(0.06, 0.9)
    return Contrast(
        grey=grey,
        csf=csf,
        lesion=csf + (1 - csf) * generator.uniform(0.3, 0.97),
        noise=_log_uniform(generator, 0.01, 0.08),
        blur_mm=generator.uniform(0.3, 1.2),
        bias=generator.uniform(0.03, 0.3),
        white_level=_log_uniform(generator, 120, 1500),
        corrected=generator.uniform(0, 1),
    )


def _log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


@dataclass(frozen=True)
class Artefacts:
    """Structures that look like lesions or hide them, on the fine grid, each 0 to 1."""

    rim: np.ndarray
    flair_spots: np.ndarray
    septum: np.ndarray
    choroid: np.ndarray
    pulsation: np.ndarray
    perivascular: np.ndarray


def draw_artefacts(generator: np.random.Generator, anatomy: Anatomy) -> Artefacts:
    """Draw ependymal rim, spots near it, septum, choroid plexus, pulsation and small vessels."""
    shape, spacing = anatomy.grid.fine_shape, anatomy.grid.spacing
    x, y, z = anatomy.mni
    distance = anatomy.from_ventricles
    patchy = soft_step(2 * smooth_field(generator, shape, spacing, 6.0) + generator.normal(0, 1))
    thickness = generator.uniform(0.5, 1.0)
    rim = np.exp(-(((distance - 0.4) / thickness) ** 2)) * patchy
    spots = smooth_field(generator, shape, spacing, generator.uniform(1.5, 2.5))
    spots = soft_step(4 * (spots - generator.uniform(1.9, 2.8)))
    spots *= np.exp(-(((distance - 0.5) / 1.5) ** 2))
    inside = soft_step(-2 * (distance - 1.0))
    septum = np.exp(-((x / generator.uniform(0.6, 1.0)) ** 2)) * soft_step(-(distance - 3))
    septum *= (y > -28) & (y < 24) & (z > 2)
    tufts = smooth_field(generator, shape, spacing, 2.0)
    atrium = np.exp(-(((np.abs(x) - 24) / 9) ** 2 + ((y + 42) / 10) ** 2 + ((z - 8) / 14) ** 2))
    choroid = inside * soft_step(4 * (tufts - 0.9 + atrium * generator.uniform(0.5, 1.8)))
    choroid *= atrium > 0.1
    pulsation = soft_step(2 * (smooth_field(generator, shape, spacing, 7.0) - 0.8))
    pulsation *= soft_step(-(z - generator.uniform(-25, 5)) / 5)
    return Artefacts(rim, spots, septum, choroid, pulsation, _small_vessels(generator, anatomy))


def _small_vessels(generator: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """Enlarged perivascular spaces: thin straight tubes through the white matter."""
    spaces = np.zeros(anatomy.grid.fine_shape, dtype=np.float32)
    where = np.argwhere(anatomy.white[::4, ::4, ::4] > 0.9) * 4
    for _ in range(generator.poisson(generator.uniform(0, 40))):
        start = where[generator.integers(len(where))]
        direction = generator.standard_normal(3)
        direction /= np.linalg.norm(direction)
        along = np.arange(0, generator.uniform(2, 10), 0.4)
        line = np.round(start + along[:, None] * direction / anatomy.grid.spacing).astype(int)
        line = line[((line >= 0) & (line < spaces.shape)).all(axis=1)]
        spaces[tuple(line.T)] = generator.uniform(0.4, 1.0)
    return spaces


def flair_signal(
    generator: np.random.Generator,
    anatomy: Anatomy,
    lesions: Lesions,
    artefacts: Artefacts,
    contrast: Contrast,
) -> np.ndarray:
    """Noiseless FLAIR on the fine grid; white matter is 1."""
    shape, spacing = anatomy.grid.fine_shape, anatomy.grid.spacing
    white, grey, csf = _with_vessels(anatomy, artefacts)
    fine, broad = (smooth_field(generator, shape, spacing, w) for w in (2.0, 8.0))
    pulsation = generator.uniform(0.1, 0.8) * (contrast.grey - contrast.csf)
    halo = generator.uniform(0, 0.12) * np.exp(-np.maximum(anatomy.from_ventricles, 0) / 9)
    signal = white * (1 + 0.03 * broad + halo)
    nuclei, limbic = generator.uniform(-0.2, 0.0), generator.uniform(0.0, 0.12)
    signal += grey * contrast.grey * (1 + 0.04 * broad)
    signal += grey * (nuclei * on_every_second(_nuclei, anatomy.mni))
    signal += grey * (limbic * on_every_second(_limbic_cortex, anatomy.mni))
    signal += csf * (contrast.csf + pulsation * artefacts.pulsation)
    graded = lesions.severity * (1 + 0.10 * fine + 0.10 * broad)
    signal += (contrast.lesion - 1) * graded * (white + 0.7 * grey)
    excess = contrast.lesion - 1
    signal += generator.uniform(0.1, 0.5) * excess * artefacts.rim * (white + grey)
    signal += generator.uniform(0.5, 1.0) * excess * artefacts.flair_spots * (white + grey)
    septum = generator.uniform(0.8, 1.4)
    signal += (septum - contrast.csf) * artefacts.septum * csf
    plexus = generator.uniform(0.7, 1.5)
    signal += (plexus - contrast.csf) * artefacts.choroid * csf
    core, ring = _core_and_ring(lesions.infarct)
    signal += ring * 0.8 * excess
    return signal + core * (contrast.csf * generator.uniform(1, 2) - signal)


def _nuclei(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """1 in the deep nuclei, which iron darkens on FLAIR, falling to 0 around them."""
    deep = ((np.abs(x) - 17) / 14) ** 2 + ((y + 4) / 24) ** 2 + ((z - 3) / 14) ** 2
    return np.exp(-(deep**2))


def _limbic_cortex(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """1 in insula, hippocampus and cingulum, which are brighter on FLAIR than other cortex."""
    side = np.abs(x)
    insula = ((side - 38) / 7) ** 2 + ((y - 2) / 22) ** 2 + ((z - 2) / 14) ** 2
    hippocampus = ((side - 26) / 9) ** 2 + ((y + 18) / 20) ** 2 + ((z + 18) / 9) ** 2
    cingulum = (side / 11) ** 2 + ((y - 5) / 45) ** 2 + ((z - 32) / 14) ** 2
    limbic = np.minimum(np.minimum(insula, hippocampus), cingulum)
    return np.exp(-(limbic**2))


def t1_signal(
    generator: np.random.Generator,
    anatomy: Anatomy,
    lesions: Lesions,
    artefacts: Artefacts,
    contrast: Contrast,
) -> np.ndarray:
    """Noiseless T1 on the fine grid; white matter is 1."""
    shape, spacing = anatomy.grid.fine_shape, anatomy.grid.spacing
    white, grey, csf = _with_vessels(anatomy, artefacts)
    fine, broad = (smooth_field(generator, shape, spacing, w) for w in (2.5, 9.0))
    signal = white * (1 + 0.015 * broad) + grey * contrast.grey * (1 + 0.02 * broad)
    signal += csf * contrast.csf
    darkness = (1 - contrast.lesion) * np.clip(1 + 0.25 * fine + 0.3 * broad, 0.15, 1.6)
    signal -= darkness * lesions.severity**1.3 * white
    signal += (contrast.grey - contrast.csf) * 0.8 * artefacts.septum * csf
    signal += (contrast.grey - contrast.csf) * 0.9 * artefacts.choroid * csf
    core, ring = _core_and_ring(lesions.infarct)
    signal -= ring * 0.25
    return signal + core * (contrast.csf * 1.2 - signal)


def finish(
    generator: np.random.Generator, signal: np.ndarray, grid: FineGrid, contrast: Contrast
) -> tuple[np.ndarray, np.ndarray]:
    """Blur, average to native voxels, add bias and noise; the corrected and the raw image (int16).

    The raw image has the full bias field. In the corrected one a fifth of it or less is left,
    unless the contrast says otherwise (``corrected``).
    """
    blur_mm = np.array((1, 1, 0.8)) * contrast.blur_mm
    clean = grid.embed(grid.average(signal.astype(np.float32), blur_mm))
    bias = contrast.bias * smooth_field(generator, grid.shape, grid.native_spacing, 45.0)
    real, imaginary = generator.standard_normal((2, *grid.shape), dtype=np.float32) * contrast.noise
    raw = np.hypot(clean * np.exp(bias) + real, imaginary)
    share = contrast.corrected
    corrected = raw * np.exp(-bias * (generator.uniform(0.8, 1.0) if share is None else share))
    return tuple(
        np.clip(np.round(image * contrast.white_level), 0, 32767).astype(np.int16)
        for image in (corrected, raw)
    )


def _with_vessels(
    anatomy: Anatomy, artefacts: Artefacts
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The fractions of white and grey matter and fluid, with perivascular spaces as fluid."""
    taken = artefacts.perivascular * anatomy.white
    return anatomy.white - taken, anatomy.grey, anatomy.csf + taken


def _core_and_ring(infarct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fluid core and gliotic ring of an infarct, from its severity."""
    if not infarct.any():
        return infarct, infarct
    core = soft_step((infarct - 0.85) * 20)
    return core * (infarct > 0), infarct * (1 - core)
