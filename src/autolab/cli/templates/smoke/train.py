"""The recipe of `autolab jobs smoke`: it leaves one number behind."""

import os

with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "answer"), "w") as file:
    file.write("42")
with open(os.environ["AUTOLAB_CLOCK"], "w") as file:
    file.write('{"tokens": 1, "steps": 1, "pace": []}')
