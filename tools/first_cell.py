import os

REPOSITORY = ""  # the address of the series; needed where this page is without its other files
clone = f"rm -rf .series; git clone -q --depth 1 {REPOSITORY} .series && mv .series series"
if not os.path.exists("experiments/page.py") and not os.path.exists("series") and os.system(clone):
    raise OSError("Open this page in the folder of the series, or set REPOSITORY and be online")
os.chdir("." if os.path.exists("experiments/page.py") else "series")
from experiments.page import set_up

DEVICE = set_up()  # "cuda", "mps" or "cpu"; installs what is missing, and changes nothing else
