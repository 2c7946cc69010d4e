"""Downloads a model from the hub: finds the files it needs, fetches them all, then names them in the snapshot.

What has been downloaded stays in the hub's cache whatever happens, and the next attempt resumes from it. Files get
their names in the snapshot when every file of every repository is here and checked, the marker last: an interrupted
download never looks complete.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from inference.catalog import Catalog
from inference.catalog.parts import NETWORKS, SETTINGS, parts_named, texts_in, weights_in
from inference.catalog.sources import Source
from inference.disk_space import existing, free_bytes, spare_bytes
from inference.errors import InferenceError, WeightsMissing
from inference.hub.client import FULL, cache_folder, host
from inference.hub.repository import RemoteFile, Repository
from inference.hub_errors import NoRoom, NoSafetensors, NotOnHub

log = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]
"""Called with the number of bytes that are here, and their total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The files that are needed from one repository, the marker last."""

    repository: Repository
    files: tuple[RemoteFile, ...]


def pull(catalog: Catalog, name: str, on_progress: OnProgress, *, checked: bool = True) -> None:
    """Download everything that the model or LoRA ``name`` lacks here.

    That includes its checker if pictures are to be ``checked``; and last, without progress, the autoencoder for its
    previews, whose failure is only logged: it must not keep anybody from drawing.

    Raises:
        InferenceError: one of ``inference.hub_errors``, UnknownModel, or WeightsMissing for what is not on the hub.
    """
    _bring(name, catalog.missing(name, checked=checked), on_progress)
    preview = catalog.missing_preview(name)
    if preview is None or preview.hub is None:
        return
    try:
        _bring(name, [preview], lambda here, total: None)
    except InferenceError as error:
        log.warning("There will be no previews while “%s” draws: %s", name, error)


def _bring(name: str, sources: Sequence[Source], on_progress: OnProgress) -> None:
    """Fetch all files that ``sources`` need, then name them in the snapshot."""
    with _full_disk_told(name, lambda: spare_bytes(cache_folder())):
        plans = [_plan(source, name) for source in sources]
    here = _bytes_here(plans)
    total = sum({(plan.repository.folder, file.digest): file.size for plan, file in _each(plans)}.values())

    def missing() -> int:
        return total - sum(here.values())

    _check_room(name, missing())

    def hear(key: tuple[Path, str], arrived: int) -> None:
        here[key] = arrived
        if not _has_room(missing()):  # others write as well, and other downloads fetch the same files
            here.update({**_bytes_here(plans), key: arrived})
            _check_room(name, missing())
        on_progress(sum(here.values()), total)

    with _full_disk_told(name, missing):
        for plan, file in _each(plans):
            plan.repository.fetch(file, partial(hear, (plan.repository.folder, file.digest)))
        of_others = [(plan.repository, file) for plan in plans for file in plan.repository.of_others()]
        for repository, file in of_others:
            repository.fetch(file, lambda _: None)
        for repository, file in of_others:
            repository.place(file)
        for plan in plans:
            for file in plan.files:
                plan.repository.place(file)
            plan.repository.note_revision()


def _each(plans: Iterable[_Plan]) -> list[tuple[_Plan, RemoteFile]]:
    return [(plan, file) for plan in plans for file in plan.files]


def _bytes_here(plans: Iterable[_Plan]) -> dict[tuple[Path, str], int]:
    """How many bytes of each file are here; several models may share a file."""
    return {(plan.repository.folder, file.digest): plan.repository.bytes_here(file) for plan, file in _each(plans)}


def _plan(source: Source, name: str) -> _Plan:
    if source.hub is None:
        raise InferenceError(WeightsMissing(model=name, path=source.whereabouts(name)))
    repository = Repository(source, name=name)
    marker = repository.files.get(PurePosixPath(source.marker))
    if marker is None:
        raise _no_marker(source, repository)
    if source.is_one_file:
        files: list[PurePosixPath] = []
    elif source.is_pipeline:
        files = _of_pipeline(source, repository, marker)
    else:
        files = _of_network(source, repository, marker.path.parent)
    for folder in source.beside:
        files += texts_in(PurePosixPath(folder), repository.files)
    others = sorted(set(files) - {marker.path})
    return _Plan(repository=repository, files=(*(repository.files[path] for path in others), marker))


def _of_pipeline(source: Source, repository: Repository, marker: RemoteFile) -> list[PurePosixPath]:
    """The files of the parts that the index names. The index itself is fetched, but not yet named in the snapshot."""
    index = repository.fetch(marker, lambda _: None).read_bytes()
    try:
        named = parts_named(index)
    except ValueError:
        raise _no_marker(source, repository) from None
    files: list[PurePosixPath] = []
    for part in named:
        if part in SETTINGS:
            files += texts_in(marker.path.parent / part, repository.files)
        elif part in NETWORKS and part not in source.without:
            files += _of_network(source, repository, marker.path.parent / part)
    return files


def _of_network(source: Source, repository: Repository, folder: PurePosixPath) -> list[PurePosixPath]:
    weights = weights_in(folder, repository.files, source.variant)
    if not weights:
        raise _no_safetensors(source, repository, folder)
    return [*texts_in(folder, repository.files), *weights]


def _no_marker(source: Source, repository: Repository) -> InferenceError:
    """The marker is missing; if it is a weight file, the error lists its folder, which may have what people meant."""
    if source.is_one_file and len(repository.files) > 0:
        return _no_safetensors(source, repository, PurePosixPath(source.marker).parent)
    what = f"{source.hub}/{source.marker} ({repository.revision})"
    return InferenceError(NotOnHub(name=repository.name, what=what, host=host()))


def _no_safetensors(source: Source, repository: Repository, folder: PurePosixPath) -> InferenceError:
    there = sorted(path.name for path in repository.files if path.parent == folder and path.suffix != ".json")
    where = str(PurePosixPath(repository.hub, folder))
    return InferenceError(
        NoSafetensors(name=repository.name, where=where, variant=source.variant, there=tuple(there[:10]))
    )


def _has_room(needed: int) -> bool:
    folder = cache_folder()
    return not needed or free_bytes(folder) >= needed + spare_bytes(folder)


def _check_room(name: str, needed: int) -> None:
    if not _has_room(needed):
        raise _no_room(name, needed, free_bytes(cache_folder()))


@contextmanager
def _full_disk_told(name: str, needed: Callable[[], int]) -> Iterator[None]:
    """Turns the operating system's disk-full error into a failure: other programs write to the disk as well."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _no_room(name, needed(), 0) from error


def _no_room(name: str, needed: int, free: int) -> InferenceError:
    folder = existing(cache_folder())
    return InferenceError(
        NoRoom(
            name=name, path=str(folder), needed_bytes=needed, free_bytes=free, spare_bytes=spare_bytes(cache_folder())
        )
    )
