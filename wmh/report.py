"""One person's scan: lesions, their probability, regions, burden and an overview picture."""

from __future__ import annotations

from pathlib import Path

from wmh.analysis.burden import regional_burden
from wmh.analysis.look import overview
from wmh.analysis.style import save_png
from wmh.images import Image, ImageError, load_image, save_image
from wmh.learning.inference import choose_model, load_model, predict
from wmh.study import Study


def predict_scan(
    study: Study, out: Path, flair: Path | None = None, t1: Path | None = None
) -> list[Path]:
    """Predict one person's lesions and regions and write them to ``out``; return what was written.

    ``lesions.nii.gz``, ``probability.nii.gz`` and ``regions.nii.gz`` lie on the grid of the FLAIR,
    or of the T1 when it is alone. ``burden.csv`` holds lesion volumes (ml) per region, and
    ``overview.png`` shows them. The originals are only read.
    """
    given = {"FLAIR": flair, "T1": t1}
    images = {name: load_image(path) for name, path in given.items() if path is not None}
    if not images:
        raise ImageError(None, "no image given", "Give --flair, --t1 or both")
    lesion_model = _trained(study, choose_model(study, "lesions", images))
    region_model = _trained(study, choose_model(study, "regions", images))
    found = predict(lesion_model, images)
    lesions = Image(found.lesions(study.evaluation.threshold), found.like.affine)
    regions = Image(predict(region_model, images).regions, found.like.affine)
    burden = regional_burden(lesions.data, regions.data, lesions.voxel_ml)

    out.mkdir(parents=True, exist_ok=True)
    burden.to_csv(out / "burden.csv", index=False)
    written = [
        save_image(out / "lesions.nii.gz", lesions.data, found.like),
        save_image(out / "probability.nii.gz", found.probability.astype("float32"), found.like),
        save_image(out / "regions.nii.gz", regions.data, found.like),
        out / "burden.csv",
    ]
    note = f"model {lesion_model.name} of study {study.name}, given {' and '.join(images)}"
    figure = overview(found.images, lesions, regions, burden, note)
    return [*written, save_png(figure, out / "overview.png")]


def _trained(study: Study, model: str):
    return load_model(study.model_folder(model) / "checkpoint.pt")
