"""The general model on real scans: what it finds, what it misses, what it marks outside the brain.

    python benchmarks/real_scans.py REAL                  # the weights in the package
    python benchmarks/real_scans.py REAL --leave-out      # trained without the scan's data set
    python benchmarks/real_scans.py REAL --pictures OUT   # and overlays to look at
    python benchmarks/real_scans.py REAL --table FILE     # and every number as CSV

REAL holds a folder for each scan, with FLAIR.nii.gz, T1.nii.gz and, where they are known,
lesions.nii.gz. With --leave-out, studies like `general` are trained first, each without the people
of one data set of its table of further people (run the study `heads` before). A scan whose name is
not in that table is predicted by the weights in the package. Results: real_scans.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cc3d
import nibabel as nib
import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from wmh.analysis.metrics import lesion_metrics
from wmh.atlas.brain import align_template, rough_brain
from wmh.atlas.grids import interpolate, voxel_centres
from wmh.atlas.labelling import label_cohort
from wmh.atlas.regions import REGION_LABELS, mni_t1
from wmh.cohorts.cohort import read_cohort
from wmh.cohorts.gather import gather_cohort
from wmh.cores import cores_here
from wmh.files import write_table
from wmh.images import Image, ImageError, load_image, load_labels, resample_to
from wmh.learning.general import load_general
from wmh.learning.inference import predict
from wmh.learning.inputs import GIVEN
from wmh.learning.models import Model, load_model
from wmh.learning.split import training_slices
from wmh.learning.training import train
from wmh.phantom.writing import simulate_study
from wmh.predict.predictor import lesions_labelled
from wmh.study import Study, load_study, project_root

AROUND_BRAIN_MM = 5.0
"""How far outside the template's brain, laid over the head, still counts as brain."""
DEVIATIONS, SMALLEST_ML = 2.5, 0.010
"""Of the threshold to compare with: robust standard deviations, and the smallest piece kept."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path, help="a folder a scan")
    parser.add_argument("--leave-out", action="store_true", help="train without each data set")
    parser.add_argument("--table", type=Path, help="CSV file for every number")
    parser.add_argument("--pictures", type=Path, help="folder for an overlay a scan")
    arguments = parser.parse_args()
    general = load_general()
    region_model, evaluation = general.model_of("regions"), general.evaluation
    left_out = models_without() if arguments.leave_out else {}
    torch.set_num_threads(cores_here())
    rows = []
    for folder in sorted(path.parent for path in arguments.real.glob("*/FLAIR.nii.gz")):
        images = {name: load_image(folder / f"{name}.nii.gz") for name in GIVEN["FLAIR+T1"]}
        truth = folder / "lesions.nii.gz"
        truth = load_labels(truth) if truth.is_file() else None
        lesion_model = left_out.get(folder.name, general.model_of("lesions"))
        flair, to_head = images["FLAIR"], align_template(rough_brain(images["T1"]), seed=0)
        found = {}
        for given, names in GIVEN.items():
            chosen = {name: images[name] for name in names}
            answer = predict(lesion_model, chosen, evaluation)
            lesions = replace(answer.like, data=answer.lesions(evaluation.threshold))
            regions = predict(region_model, chosen).regions
            regions = lesions_labelled(regions, lesions)
            rows.append(
                {"scan": folder.name, "given": given, "trained without": lesion_model.study}
                | measure(lesions, replace(answer.like, data=regions), flair, truth, to_head)
            )
            found[given] = (lesions, regions)
        if arguments.pictures:
            draw(arguments.pictures / f"{folder.name}.png", images, found, truth)
    table = pd.DataFrame(rows)
    if arguments.table:
        write_table(table, arguments.table)
    print(in_markdown(table, 2))
    known = table.dropna(subset="dice")
    known = known.assign(ratio=known["found_ml"] / known["true_ml"])
    summary = known.groupby("given")[["dice", "f1", "threshold_dice", "true_in_regions"]].mean()
    summary["median found / true"] = known.groupby("given")["ratio"].median()
    summary["most outside brain, ml"] = table.groupby("given")["outside_brain_ml"].max()
    print(in_markdown(summary.reset_index(), 3))


def in_markdown(table: pd.DataFrame, decimals: int) -> str:
    """A table as Markdown has it."""
    rows = [list(table.columns), ["---"] * table.shape[1]]
    rows += table.round(decimals).fillna("").astype(str).to_numpy().tolist()
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def models_without() -> dict[str, Model]:
    """The lesion model for each scan of the further table: trained without its data set."""
    study = load_study("general")
    table = pd.read_csv(project_root() / study.cohort.further, dtype=str)
    found = {}
    for data_set, rows in table.groupby("scanner"):
        others = (project_root() / study.cohort.further).with_name(f"without_{data_set}.csv")
        table[table["scanner"] != data_set].to_csv(others, index=False)
        cohort = study.cohort.model_copy(update={"further": others})
        update = {"name": f"general_without_{data_set}", "cohort": cohort}
        checkpoint = trained(study.model_copy(update=update), "lesions")
        found |= dict.fromkeys(rows["id"], load_model(checkpoint))
    return found


def trained(study: Study, model: str) -> Path:
    """The checkpoint of a study's model, trained now if it is not there."""
    checkpoint = study.model_folder(model) / "checkpoint.pt"
    if not checkpoint.is_file():
        simulate_study(study)
        gather_cohort(study)
        label_cohort(study, read_cohort(study.results / "cohort.csv"))
        train(study, model, *training_slices(study, model))
    return checkpoint


def measure(
    lesions: Image, regions: Image, flair: Image, truth: Image | None, to_head: np.ndarray
) -> dict[str, float]:
    """What one answer comes to, in ml where no other unit is named."""
    found = lesions.data > 0
    brain = brain_mask(to_head, lesions)
    row = {
        "found_ml": found.sum() * lesions.voxel_ml,
        "outside_brain_ml": (found & ~brain).sum() * lesions.voxel_ml,
        "white_ml": (regions.data > 0).sum() * lesions.voxel_ml,
    }
    if truth is None:
        return row
    try:
        on_grid = resample_to(truth, lesions, order=0)
    except ImageError:
        return row
    true = on_grid.data == 1
    five = lesion_metrics(on_grid.data, lesions.data, lesions.affine)
    by_threshold = bright(resample_to(flair, lesions), brain)
    in_regions = np.isin(regions.data, REGION_LABELS)
    return row | {
        "true_ml": true.sum() * lesions.voxel_ml,
        "dice": five["dice"],
        "f1": five["lesion_f1"],
        "threshold_dice": 2 * (by_threshold & true).sum() / (by_threshold.sum() + true.sum()),
        "true_in_regions": (in_regions & true).sum() / true.sum(),
    }


def brain_mask(to_head: np.ndarray, like: Image) -> np.ndarray:
    """Where the MNI152 template's brain lies once laid over the head, a little widened."""
    template = mni_t1(2)
    distance = (
        ndimage.distance_transform_edt(np.pad(template.data == 0, 10, constant_values=True)) * 2
    )
    affine = template.affine @ nib.affines.from_matvec(np.eye(3), [-10] * 3)
    points = nib.affines.apply_affine(np.linalg.inv(to_head), voxel_centres(like))
    near = interpolate(Image(-distance.astype(np.float32) + 100, affine), points)
    return (near > 100 - AROUND_BRAIN_MM).reshape(like.data.shape)


def bright(flair: Image, brain: np.ndarray) -> np.ndarray:
    """The threshold to compare with: mode of the brain and so many robust standard deviations."""
    values = flair.data[brain & (flair.data > 0)]
    counts, edges = np.histogram(values, 200, range=(0, np.percentile(values, 99.5)))
    mode = edges[ndimage.gaussian_filter1d(counts.astype(float), 3).argmax()]
    spread = 1.4826 * np.median(np.abs(values - mode))
    above = brain & (flair.data > mode + DEVIATIONS * spread)
    return cc3d.dust(above, threshold=SMALLEST_ML / flair.voxel_ml, connectivity=26) > 0


def draw(
    path: Path,
    images: dict[str, Image],
    found: dict[str, tuple[Image, np.ndarray]],
    truth: Image | None,
) -> None:
    """Eight slices of the FLAIR with lesions found (red) and true (green), and of the regions."""
    import matplotlib.pyplot as plt

    from wmh.figures.slices import region_colours
    from wmh.images import to_ras

    lesions, regions = found["FLAIR+T1"]
    planes = [to_ras(replace(lesions, data=data)).data for data in (lesions.data, regions)]
    flair = to_ras(resample_to(images["FLAIR"], lesions)).data
    true = None if truth is None else to_ras(resample_to(truth, lesions, order=0)).data == 1
    heights = np.linspace(0.15, 0.85, 8) * (flair.shape[2] - 1)
    figure, axes = plt.subplots(2, 8, figsize=(24, 7), layout="constrained")
    top = np.percentile(flair, 99.5)
    for (above, below), z in zip(axes.T, heights.astype(int), strict=True):
        for axis in (above, below):
            axis.imshow(flair[:, :, z].T[::-1], cmap="gray", vmin=0, vmax=top)
            axis.set_axis_off()
        outlines = [("red", planes[0])] + ([] if true is None else [("lime", true)])
        for colour, mask in outlines:
            if mask[:, :, z].any():
                above.contour(mask[:, :, z].T[::-1], [0.5], colors=colour, linewidths=0.7)
        shown = np.ma.masked_equal(planes[1][:, :, z].T[::-1], 0)
        below.imshow(shown, cmap=region_colours(), vmin=0, vmax=36, alpha=0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=60)
    plt.close(figure)


if __name__ == "__main__":
    main()
