"""The folder of the runs: a new one put there, and the one found that is meant."""

from __future__ import annotations

import re
from pathlib import Path

from kilonet import files
from kilonet.errors import ConfigError, RunError
from kilonet.rundir import Run


def create(project: Path, name: str | None, contents: dict[str, bytes | str]) -> Run:
    """A new run directory that holds some files from its first moment; two that ask at once never get the same.

    Args:
        project: the folder of the runs; made if it is not there.
        name: of the run, or None for `train`, `train2`, ..., the first that is free.
        contents: of the files, by name.

    Raises:
        ConfigError: if the name is taken or would leave the project.
        RunError: if the directory can't be made.
    """
    if name is not None:
        check_free(project, name)
    names = [name] if name is not None else ("train" if i == 1 else f"train{i}" for i in range(1, 1_000_000))
    try:
        made = next((run for candidate in names if (run := _made(project / candidate, contents))), None)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{project} is no folder", "give another one with --project") from None
    except OSError as error:
        raise RunError(f"can't write into {project}: {error.strerror}", "give another folder with --project") from None
    if made is None:
        raise ConfigError(f"{project / (name or 'train')} exists already", "give another --name, or none")
    return made


def _made(path: Path, contents: dict[str, bytes | str]) -> Run | None:
    """A new run directory, or None if the name is taken."""
    if path.exists():
        return None
    try:
        with files.whole_folder(path, replace=False) as building:
            for inside in ("weights", "state"):
                (building / inside).mkdir()
            for file, content in contents.items():
                files.write(building / file, content)
    except FileExistsError:
        if not path.exists():
            raise
        return None
    return Run(path)


def check_free(project: Path, name: str) -> None:
    """Make sure that a new run can have this name.

    Raises:
        ConfigError: if it would leave its folder, is `last`, or is taken.
    """
    files.check_name(name, "the run's name")
    if name == "last":
        raise ConfigError("a run can't be named 'last'", "that word means the newest run")
    if (project / name).exists():
        raise ConfigError(f"{project / name} exists already", "give another --name, or none")


def find(name: str, project: Path) -> Run:
    """The run that is meant by a directory, one of its weight files, a name in the project, or `last`.

    Raises:
        RunError: if there is none, or it is no run.
    """
    if name == "last":
        found = [p for p in project.glob("[!.]*/config.toml") if p.is_file()] if project.is_dir() else []
        if not found:
            raise RunError(f"no runs in {project}", "train one: kilonet train")
        return Run(max(found, key=lambda p: (p.stat().st_mtime_ns, _last_number(p.parent.name))).parent)
    path = Path(name).expanduser()
    if not path.exists() and (project / name).exists():
        path = project / name
    shown = files.printable(str(path))
    if path.is_file():
        if path.suffix != ".safetensors":
            raise RunError(f"{shown} is no run: expected a run directory or a .safetensors file")
        return Run(path.resolve().parent.parent, path.resolve())
    if not path.exists():
        raise RunError(f"no run {shown}", f"runs lie in {project}; 'last' is the newest")
    if not (path / "config.toml").is_file():
        if (path / "sweep.toml").is_file():
            raise RunError(f"{shown} is a sweep, not a run", f"kilonet sweep --name {path.name}, or name {path}/winner")
        if looks_like_run(path):
            raise RunError(f"{shown} has no config.toml", "put it back; its weight files can be used without it")
        raise RunError(f"{shown} is no run directory: it has no config.toml")
    return Run(path)


def looks_like_run(path: Path) -> bool:
    """Whether a folder holds what only a run directory does, though its config may be gone."""
    names = ("config.toml", "state/*.npz", "state/*.json", "state/*.safetensors", "weights/*.safetensors")
    return any(next(path.glob(name), None) for name in (*names, "seed-*/config.toml", "sweep.toml"))


def find_directory(name: str, project: Path) -> Run:
    """The run that is meant by a directory, a name in the project, or `last`.

    Raises:
        RunError: if there is none, or it is no run.
        ConfigError: if it is a weight file.
    """
    found = find(name, project)
    if found.weights is not None:
        raise ConfigError(f"{name} is a weight file: expected a run", f"did you mean {found.path}?")
    return found


def members(run: Run) -> list[Run]:
    """What is measured of a run: those inside a directory of several seeds, else the run itself, a committee's too."""
    return [run] if run.weights is not None or run.config.seeds == 1 else trainings(run)


def trainings(run: Run) -> list[Run]:
    """The runs inside a directory of several seeds or of a committee, one a training, else the run itself."""
    alone = run.weights is not None and not (run.is_directory() and run.config.committee > 1)
    if alone or len(run.config.numbers) == 1:
        return [run]
    found = [Run(run.path / f"seed-{number}") for number in run.config.numbers]
    if not (there := [member for member in found if member.is_directory()]):
        raise run.lacks(found[0].path, "holds none of its runs yet")
    return there


def single(run: Run) -> Run:
    """The run, if it is one.

    Raises:
        RunError: if it is a directory of several seeds.
    """
    inside = members(run)
    if inside != [run]:
        raise RunError(f"{run.path} holds {len(inside)} runs", f"name one, such as {inside[0].path}")
    return run


def _last_number(name: str) -> int:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else 0
