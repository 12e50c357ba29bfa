"""The pictures of the site, made anew: `python docs/pictures.py`. Needs a Chromium; takes minutes on two cores.

A small grid is run at the scale `smoke` with the engine itself, its report is built, and its pages are photographed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "images"
#: Two sizes of window: a desktop's and a phone's, pixels.
DESKTOP, PHONE = (1280, 1500), (390, 844)
COLOURS = 48
#: Picture -> its width at most, pixels.
MADE = {"report.png": 1280, "run.png": 390, "forest.png": 1000, "cell.png": 1000}
GRID = """
from cscdarts import apply_preset, protocol, with_values


def grid(scale):
    base = with_values(protocol("quickstart", scale), {"runtime.cut_off": "train"})
    for seed in (0, 1):
        seeded = with_values(base, {"seed": seed})
        for ratio in ("1", "1/2"):
            for place in ("cell", "none"):
                yield with_values(
                    apply_preset(seeded, "csc"), {"supernet.split_ratio": ratio, "supernet.identity": place}
                )
        for method in ("darts1", "pcdarts"):
            yield apply_preset(seeded, method)
"""


def photograph(page: Path, size: tuple[int, int], to: Path) -> None:
    """Photograph the top of a page as a window of that size shows it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme="light")
        view.goto(page.as_uri())
        view.screenshot(path=to)
        browser.close()


def chromium() -> str:
    """The Chromium of this machine.

    Errors:
        SystemExit: there is none.
    """
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    return found or sys.exit("no Chromium here (apt-get install chromium)")


def shrink(path: Path, width: int) -> None:
    """Fewer colours and pixels, so that the repository stays small."""
    picture = Image.open(path).convert("RGB")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Make all pictures."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "small.py").write_text(GRID, encoding="utf-8")
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}

        def cscdarts(*words: str) -> None:
            command = [sys.executable, "-m", "ablations.cli", *words]
            subprocess.run(command, cwd=folder, env=variables, check=True)

        cscdarts("ablate", "run", "small.py", "--scale", "smoke")
        cscdarts("report", "small", "--out", "report")
        cscdarts("draw", "PDARTS", "--out", str(OUT / "cell.png"))
        page = folder / "report" / "index.html"
        photograph(page, DESKTOP, OUT / "report.png")
        photograph(next((folder / "report" / "runs").glob("*.html")), PHONE, OUT / "run.png")
        shutil.copy(folder / "report" / "figures" / "f8_forest.png", OUT / "forest.png")
    for picture, width in MADE.items():
        shrink(OUT / picture, width)


if __name__ == "__main__":
    main()
