"""The house stands: a room imports only from lower floors, and importing costs little."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import kilonet

SOURCE = Path(kilonet.__file__).parent

FLOORS = {
    0: {"errors", "files", "config", "images", "world", "history", "stopping"},
    1: {
        "augment",
        "components",
        "arrays",
        "pictures",
        "sources",
        "ink",
        "preprocess",
        "models",
        "committee",
        "zoo",
        "summary",
        "batches",
        "metrics",
        "significance",
        "optimizers",
    },
    2: {"engines", "checkpoint", "state"},
    3: {"train", "evaluation", "predict", "plots", "distribution"},
    4: {"seals", "records", "rundir", "shelf", "progress", "measuring", "comparing", "doctor", "stock"},
    5: {"assembly", "beside", "run", "seeds"},
    6: {"bench", "display", "export", "flags", "peers", "plain", "races", "serve", "sweep"},
    7: {"cli", "__main__"},
}  # fmt: skip
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
STEPS_ON_A_FLOOR = {
    ("files", "errors"), ("config", "errors"), ("images", "errors"), ("world", "errors"),
    ("stopping", "errors"),
    ("sources", "arrays"), ("sources", "pictures"), ("summary", "models"), ("summary", "zoo"), ("models", "zoo"),
    ("committee", "models"), ("preprocess", "ink"), ("ink", "components"),
    ("significance", "metrics"),
    ("predict", "evaluation"), ("plots", "predict"), ("distribution", "plots"),
    ("rundir", "seals"), ("rundir", "records"), ("progress", "rundir"), ("progress", "records"),
    ("measuring", "rundir"), ("measuring", "records"), ("comparing", "rundir"),
    ("shelf", "rundir"), ("comparing", "shelf"),
    ("doctor", "rundir"), ("doctor", "records"), ("stock", "records"),
    ("assembly", "run"), ("seeds", "assembly"), ("seeds", "run"), ("seeds", "beside"),
    ("races", "plain"), ("peers", "plain"), ("peers", "races"), ("bench", "peers"), ("bench", "races"),
    ("serve", "export"), ("sweep", "display"),
    ("__main__", "cli"),
}  # fmt: skip


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kilonet":
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


def room(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def wrong_imports() -> list[str]:
    files = [file for file in SOURCE.rglob("*.py") if room(file) != "__init__"]
    return [
        f"{room(file)} imports {other}"
        for file in files
        for other in sorted(imports(file))
        if other in FLOOR and other != room(file)
        if FLOOR[other] >= FLOOR[room(file)] and (room(file), other) not in STEPS_ON_A_FLOOR
    ]


def test_every_room_has_a_floor() -> None:
    rooms = {room(file) for file in SOURCE.rglob("*.py")} - {"__init__"}
    assert rooms == set(FLOOR)


def test_lower_floors_never_import_higher_ones() -> None:
    assert wrong_imports() == []


def test_steps_on_a_floor_make_no_circle() -> None:
    assert not any((b, a) in STEPS_ON_A_FLOOR for a, b in STEPS_ON_A_FLOOR)


def test_importing_and_help_do_not_import_torch() -> None:
    code = (
        "import sys, kilonet\nfrom kilonet import cli\n"
        "for words in (['--help'], ['train', '--help']):\n"
        "    try:\n        cli.main(words)\n    except SystemExit:\n        pass\n"
        "sys.exit(sorted({'torch', 'numpy', 'matplotlib', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names_are_there() -> None:
    assert [name for name in kilonet.__all__ if not hasattr(kilonet, name)] == []
    assert not {name for name in kilonet.__all__ if (SOURCE / f"{name}.py").exists()} - {"plots"}
