"""Takes the picture of a run's report in the README, docs/images/report.png: the result and the scores by class.

python docs/tools/report_picture.py RUN/report.html

Needs Chromium, its driver and Selenium. The picture in the repository is of the run that `ktransfer demo` makes.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "report.png"
WIDTH, HEIGHT, SHOWN = 1100, 925, 880  # pixels: of the window, and the width of the picture
COLORS = 128

sys.path.append(str(ROOT / "tests"))


def main(report):
    from browser import chromium, resize, show

    with tempfile.TemporaryDirectory() as profile, chromium(profile) as browser:
        show(browser, Path(report), width=WIDTH)
        resize(browser, WIDTH, HEIGHT)
        # What names folders of the machine, or is too long for a picture.
        browser.execute_script(
            "document.querySelectorAll('section:not(#classes)').forEach(section => section.remove())"
        )
        taken = browser.get_screenshot_as_png()
    picture = Image.open(io.BytesIO(taken)).convert("RGB")
    picture = picture.resize((SHOWN, round(picture.height * SHOWN / picture.width)), Image.Resampling.LANCZOS)
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
