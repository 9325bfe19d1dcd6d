"""The programs of the tutorial, in the order in which newcomers read them."""

from pathlib import Path

TUTORIAL = (
    "from_the_formulas",
    "keras_program",
    "house_prices",
    "handwritten_digits",
    "fine_tuning",
    "optimizers",
    "on_a_gpu",
    "troubleshooting",
)


class TutorialOrder:
    """The key by which sphinx-gallery sorts: the tutorial, then other programs by their names."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, filename: str) -> tuple[int, str]:
        name = Path(filename).stem
        return (TUTORIAL.index(name) if name in TUTORIAL else len(TUTORIAL)), name
