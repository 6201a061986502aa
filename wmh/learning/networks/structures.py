"""What a network of each task predicts."""

CLASSES = {"lesions": 2, "regions": 37}
"""Classes of each structure: background and lesion; background, 34 regions and two rest labels."""

STRUCTURES = {
    "lesions": ("lesions",),
    "regions": ("regions",),
    "multitask": ("lesions", "regions"),
}
"""What a network of each task predicts."""
