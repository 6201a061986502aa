"""NIfTI images in and out, checked.

Every function that reads a file raises :class:`ImageError`, whose message names the file and says
what to do about it. An interrupted run never leaves half an image behind.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from scipy.linalg import polar

from wmh.files import complete

SMALLEST_VOXEL_MM, LARGEST_VOXEL_MM = 0.1, 20.0
LARGEST_VIEW_MM = 800.0
"""Longest edge of an image. No scanner has a larger field of view, and one with fine voxels would
fill the memory."""
ENDINGS = (".nii", ".nii.gz")
"""Endings of image files that may be written."""
BACKGROUND_SPREAD = 0.1
"""Background intensities may differ by this share of the image's range of intensities."""
NEAR_0, NOISE_FLOOR = 0.05, 0.2
"""A background is left as it is if it lies below 0 by at most the first share of the bright
intensities, and above 0 by at most the second."""
DARKER_THAN_AROUND = 0.2
"""The head alone was standardised if at least this share of it is darker than the background."""
LARGEST_DISAGREEMENT = 30.0
"""Largest angle in degrees between qform and sform. One of them may hold a registration, but they
must agree on which way is up."""


class ImageError(ValueError):
    """An image that cannot be used. The message names the file, the problem and the remedy."""

    def __init__(self, path: Path | str | None, problem: str, remedy: str):
        self.path, self.problem, self.remedy = path, problem, remedy
        super().__init__(f"{path or 'image in memory'}: {problem}. {remedy}.")

    def __reduce__(self):  # so that a worker process can pass it on with all its parts
        return type(self), (self.path, self.problem, self.remedy)


@dataclass(frozen=True, eq=False)  # compared by identity: comparing arrays has no single answer
class Image:
    """A 3-D image on its grid: ``data`` (x, y, z), and ``affine`` (4, 4) from voxels to RAS mm."""

    data: np.ndarray
    affine: np.ndarray
    path: Path | None = None
    header: nib.Nifti1Header | None = field(default=None, repr=False)

    @property
    def voxel_size(self) -> np.ndarray:
        """Edge lengths of a voxel in mm along each array axis, shape (3,)."""
        return nib.affines.voxel_sizes(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def orientation(self) -> str:
        """Closest anatomical directions of the array axes, e.g. ``"RAS"`` or ``"LPS"``."""
        return "".join(nib.aff2axcodes(self.affine))


def load_image(path: Path | str) -> Image:
    """Load a 3-D intensity image as float32, its background at 0.

    An image whose background is far from 0 is shifted (:func:`with_background_at_0`). A fourth axis
    of length one is dropped. Raises :class:`ImageError` for a file that is missing, empty,
    truncated or not NIfTI; a 4-D image; colours and complex numbers; NaN or infinite voxels; an
    image that is constant; an affine that no scan can have; and a header that does not tell left
    from right.
    """
    image = _read(Path(path))
    _raise_unless_sided(image)
    data = np.asanyarray(image.data, dtype=np.float32)
    bad = int(np.count_nonzero(~np.isfinite(data)))
    if bad:
        raise ImageError(
            path,
            f"{bad} voxels are NaN or infinite",
            "Replace them, for instance with 0: nilearn.image.clean_img or numpy.nan_to_num",
        )
    if data.min() == data.max():
        raise ImageError(
            path,
            f"every voxel is {data.flat[0]:g}",
            "Export the image again; this one is empty",
        )
    return Image(with_background_at_0(data), image.affine, image.path, image.header)


def with_background_at_0(data: np.ndarray) -> np.ndarray:
    """Shift intensities (x, y, z) so that the background is 0; unchanged if it is near 0 already.

    The background is the median intensity on the faces of the image. If it is among the darkest
    intensities, the image was shifted or standardised as a whole, and the background becomes 0. If
    much of the head is far darker, the head alone was standardised: then the darkest part of the
    head becomes 0, and so does the background.
    """
    some = data[tuple(slice(None, None, max(1, n // 64)) for n in data.shape)]
    faces = np.concatenate([np.moveaxis(data, axis, 0)[[0, -1]].ravel() for axis in range(3)])
    border = float(np.median(faces))
    dark, bright = np.percentile(some, (1, 99))
    if border - dark < BACKGROUND_SPREAD * (bright - dark):
        if -NEAR_0 * (bright - border) <= border <= NOISE_FLOOR * bright:
            return data
        return np.maximum(data - np.float32(border), 0)
    if np.count_nonzero(faces == border) < len(faces) / 2:
        return data  # the head reaches the border
    inside = some[some != border]
    if (
        not len(inside)
        or np.mean(inside < border - BACKGROUND_SPREAD * (bright - border)) < DARKER_THAN_AROUND
    ):
        return data
    darkest = np.float32(np.percentile(inside, 1))
    return np.where(data == border, np.float32(0), np.maximum(data - darkest, 0))


def load_labels(
    path: Path | str, allowed: range | set[int] | None = None, sided: bool = True
) -> Image:
    """Load a 3-D label image as uint8, whatever type the file stores its labels in.

    ``allowed`` are the labels the image may hold; by default any integer from 0 to 255. Raises
    :class:`ImageError` as :func:`load_image` does (an all-zero label image is allowed), and for
    values that are not whole numbers or not allowed. A mask that the header scales to 0 and 0.998
    is read as 0 and 1, with a warning. Set ``sided`` to false where left and right do not matter:
    the header then need not tell them apart.
    """
    image = _read(Path(path))
    if sided:
        _raise_unless_sided(image)
    values = np.asanyarray(image.data)
    if not np.isfinite(values).all():
        raise ImageError(path, "some labels are NaN or infinite", "Save the labels as integers")
    labels = np.round(values)
    if np.abs(values - labels).max() > 1e-3 and _is_mask_off_whole_numbers(values, image.header):
        shown = f"{values.max():g}"
        warnings.warn(f"{path}: the mask's values 0 and {shown} are read as 0 and 1", stacklevel=2)
        labels = values > values.max() / 2
    elif np.abs(values - labels).max() > 1e-3:
        raise ImageError(
            path,
            "some labels are not whole numbers",
            "If it holds labels, resample them with nearest-neighbour interpolation; if it holds "
            "probabilities, threshold them",
        )
    found = {int(v) for v in np.unique(labels[labels != 0])}  # most voxels are 0: faster without
    unknown = found - set(range(256) if allowed is None else allowed)
    if unknown:
        shown = ", ".join(str(v) for v in sorted(unknown)[:6])
        known = range(256) if allowed is None else sorted(allowed)
        span = f"{known[0]} to {known[-1]}" if len(known) > 3 else ", ".join(map(str, known))
        remedy = f"Allowed are {span}; replace all other labels by these"
        if found <= {0, 255}:
            remedy = "Divide the mask by 255, so that it holds 0 and 1, and save it"
        raise ImageError(path, f"labels {shown} are not allowed here", remedy)
    return Image(labels.astype(np.uint8), image.affine, image.path, image.header)


def save_image(path: Path | str, data: np.ndarray, like: Image) -> Path:
    """Save ``data`` (x, y, z) on the grid of ``like``: same affine, qform and sform set, in mm.

    Booleans become uint8; other types are kept (float64 becomes float32).
    """
    path = Path(path)
    if data.shape != like.data.shape:
        raise ImageError(
            path,
            f"data of shape {data.shape} do not fit the grid {like.data.shape} of {like.path}",
            "Resample the data to that grid first",
        )
    kind = {np.dtype(bool): np.uint8, np.dtype(np.float64): np.float32}.get(data.dtype, data.dtype)
    output = nib.Nifti1Image(data.astype(kind), like.affine)
    header = like.header if isinstance(like.header, nib.Nifti1Header) else {}
    sform, qform = (int(header.get(name, 0)) or 1 for name in ("sform_code", "qform_code"))
    output.set_sform(like.affine, code=sform)
    output.set_qform(like.affine, code=qform, strip_shears=True)
    output.header.set_xyzt_units("mm")
    with complete(path) as part:  # nibabel writes gzip without a time: equal data, equal bytes
        nib.save(output, part)
    return path


def rough_head(data: np.ndarray) -> np.ndarray:
    """Rough head mask (x, y, z): voxels brighter than a fifth of the image's 99th percentile."""
    return data > 0.2 * np.percentile(data, 99)


def raise_unless_writable(path: Path, image: bool = False) -> None:
    """Raise :class:`ImageError` where a folder or ``image`` file cannot be written.

    Called before the work begins, so that no result is lost.
    """
    if image and not path.name.endswith(ENDINGS):
        raise ImageError(path, "not the name of an image", "Let the name end in .nii.gz")
    if image and path.is_dir():
        raise ImageError(path, "is a folder", "Name the file to write")
    folder = path.parent if image else path
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ImageError(there, "is a file, not a folder", "Name another folder to write to")
    try:
        tempfile.TemporaryFile(dir=there).close()  # permissions alone do not tell
    except OSError as error:
        problem = f"cannot be written to ({error.strerror})"
        raise ImageError(there, problem, "Name another folder to write to") from error


def same_grid(first: Image, second: Image, tolerance_mm: float = 0.05) -> bool:
    """Return whether two images have equal shapes and their corners lie within ``tolerance_mm``."""
    if first.data.shape != second.data.shape:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in first.data.shape])).reshape(3, -1).T
    apart = nib.affines.apply_affine(first.affine, corners) - nib.affines.apply_affine(
        second.affine, corners
    )
    return float(np.linalg.norm(apart, axis=1).max()) <= tolerance_mm


def resample_to(image: Image, reference: Image, order: int = 1) -> Image:
    """Bring an image to another image's grid through their headers.

    ``order`` is the spline order: 1 for intensities, 0 (nearest neighbour) for labels. Raises
    :class:`ImageError` when the two do not overlap in world space.
    """
    if same_grid(image, reference):
        return Image(image.data, reference.affine, image.path, reference.header)
    moved = resample_from_to(
        nib.Nifti1Image(image.data, image.affine),
        (reference.data.shape, reference.affine),
        order=order,
    )
    data = np.asarray(moved.dataobj, dtype=image.data.dtype)
    if not data.any():
        raise ImageError(
            image.path,
            f"does not overlap {reference.path} in world space",
            "Check that both come from one session, and that no tool removed the origin from a "
            "header",
        )
    return Image(data, reference.affine, image.path, reference.header)


def to_ras(image: Image) -> Image:
    """Reorder and flip the array axes to the closest right-anterior-superior directions."""
    orientation = nib.io_orientation(image.affine)
    affine = image.affine @ nib.orientations.inv_ornt_aff(orientation, image.data.shape)
    return Image(nib.apply_orientation(image.data, orientation), affine, image.path)


def from_ras(data: np.ndarray, like: Image) -> np.ndarray:
    """Undo :func:`to_ras`: put an array (x, y, z) in RAS order back on the axes of ``like``."""
    ras = nib.orientations.axcodes2ornt("RAS")
    original = nib.io_orientation(like.affine)
    return nib.apply_orientation(data, nib.orientations.ornt_transform(ras, original))


def _is_mask_off_whole_numbers(values: np.ndarray, header: nib.Nifti1Header) -> bool:
    """Return whether values lie within 0.01 of 0 and 1, or are stored as 0 and one whole number.

    Such values come from a header that scales them, or from resampled or compressed floats.
    """
    if np.minimum(np.abs(values), np.abs(values - 1)).max() <= 0.01:
        return True
    return header.get_data_dtype().kind in "iu" and np.array_equal(
        np.unique(values), [0, values.max()]
    )


def _read(path: Path) -> Image:
    if str(path) != (shown := os.fsencode(path).decode(errors="replace")):  # no page can show it
        raise ImageError(shown, "the name is not in UTF-8", "Rename the file or its folder")
    _raise_unless_readable(path)
    try:
        file = nib.load(path)
        data = np.asanyarray(file.dataobj)
        if path.suffix.lower() == ".gz":
            _raise_unless_whole(path)
    except (
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
        AttributeError,  # a surface, which has no voxels
    ) as error:
        remedy = _other_ending(path) or "Convert it to NIfTI, for instance with dcm2niix"
        raise ImageError(path, f"not a NIfTI image ({error})", remedy) from error
    except MemoryError as error:
        raise ImageError(
            path, "does not fit into memory", "Close other programs, or crop the image"
        ) from error
    except (EOFError, OSError, OverflowError, ValueError, zlib.error) as error:
        raise ImageError(
            path,
            f"cannot be read to its end ({error})",
            "The file is incomplete or damaged; copy it again",
        ) from error
    if data.dtype.kind not in "biuf":
        kind = "complex numbers" if data.dtype.kind == "c" else "colours"
        remedy = "Save one number per voxel, for instance the magnitude as float32"
        raise ImageError(path, f"its voxels hold {kind}", remedy)
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise ImageError(
            path,
            f"has {data.ndim} dimensions {data.shape}, not 3",
            "Save the one 3-D volume that should be used",
        )
    if data.size == 0:
        raise ImageError(path, f"has no voxels {data.shape}", "Export the image again")
    return Image(data, _checked_affine(path, file), path, file.header)


def _other_ending(path: Path) -> str | None:
    """What to do about a file whose name says wrongly whether it is compressed."""
    with path.open("rb") as file:
        start = file.read(348)
    if start[:2] == b"\x1f\x8b" and path.suffix.lower() != ".gz":
        return "It is compressed: end its name in .nii.gz"
    if start[344:348] in (b"n+1\0", b"ni1\0") and path.suffix.lower() == ".gz":
        return "It is not compressed: end its name in .nii"
    return None


def _raise_unless_readable(path: Path) -> None:
    try:
        if path.is_dir():
            remedy = "Name the NIfTI file in it; dcm2niix makes one from DICOM files"
            raise ImageError(path, "is a folder", remedy)
        if not path.is_file():
            remedy = "Check the path; a NIfTI file (.nii.gz) is expected"
            raise ImageError(path, "no such file", remedy)
        if path.stat().st_size == 0:
            raise ImageError(path, "the file is empty (0 bytes)", "Copy or download it again")
        path.open("rb").close()  # nibabel would call an unreadable file one of another format
    except PermissionError as error:
        remedy = (
            "Change the permissions of the file or its folder: chmod u+r FILE, chmod u+rx FOLDER"
        )
        raise ImageError(path, "you have no permission to read it", remedy) from error


def _raise_unless_whole(path: Path) -> None:
    """Read a compressed file up to its checksum; nibabel stops before."""
    with gzip.open(path) as file:
        while file.read(2**24):
            pass


def _checked_affine(path: Path, file: nib.spatialimages.SpatialImage) -> np.ndarray:
    affine = np.asarray(file.affine, dtype=float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ImageError(
            path, "the header's affine cannot be inverted", "Convert the image again from DICOM"
        )
    size = nib.affines.voxel_sizes(affine)
    if size.min() < SMALLEST_VOXEL_MM or size.max() > LARGEST_VOXEL_MM:
        shown = " x ".join(f"{s:g}" for s in size)
        raise ImageError(
            path,
            f"a voxel of {shown} mm is impossible for a head scan",
            "Check the units in the header",
        )
    view = size * file.shape[:3]
    if view.max() > LARGEST_VIEW_MM:
        shown = " x ".join(f"{s:.0f}" for s in view)
        raise ImageError(
            path,
            f"a field of view of {shown} mm is larger than any scanner's",
            "Check the voxel size and the units in the header",
        )
    return affine


def _raise_unless_sided(image: Image) -> None:
    """Refuse a header that gives no orientation, or two different ones: sides are never guessed."""
    header, path = image.header, image.path
    if not isinstance(header, nib.AnalyzeHeader):  # a format outside the family of NIfTI
        return
    codes = (0, 0)
    if isinstance(header, nib.Nifti1Header):
        codes = int(header["qform_code"]), int(header["sform_code"])
    if codes == (0, 0):
        raise ImageError(
            path,
            "the header does not give the orientation",
            "Convert the image again from DICOM (dcm2niix), so that left and right are known",
        )
    if not all(codes):
        return
    forms = header.get_qform(), header.get_sform()
    sides = [np.sign(np.linalg.det(form[:3, :3])) for form in forms]
    if sides[0] != sides[1] or _angle(*forms) > LARGEST_DISAGREEMENT:
        shown = " and ".join("".join(nib.aff2axcodes(form)) for form in forms)
        what = "left and right" if sides[0] != sides[1] else "orientation"
        raise ImageError(
            path,
            f"qform and sform disagree on {what} ({shown})",
            "Find out which of the two is right (from a vitamin capsule, a scar of surgery or "
            "another scan of the person), and write it to both, for instance with fslorient",
        )


def _angle(first: np.ndarray, second: np.ndarray) -> float:
    """Angle in degrees between the axes of two affines."""
    one, other = (polar(affine[:3, :3])[0] for affine in (first, second))  # without scale, shear
    return float(np.rad2deg(np.arccos(np.clip((np.trace(one.T @ other) - 1) / 2, -1, 1))))
