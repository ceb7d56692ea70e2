"""The stored form of jobs, and which of them are kept."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
import functools
import logging
import re
from types import NoneType, UnionType
import typing

from .model import FirmwareJob

_LOGGER = logging.getLogger(__name__)

KEPT_JOBS = 500

# The job id names the log file, so a stored one is not taken on trust.
_JOB_ID = re.compile(r"[0-9a-f]{32}")


def encode(job: FirmwareJob) -> dict[str, object]:
    """Return the JSON-ready form of a job; its private fields are not part of it."""
    encoded = _encode(job)
    assert isinstance(encoded, dict)  # noqa: S101 - a dataclass becomes a dict
    return encoded


def decode(record: object) -> FirmwareJob:
    """Return the job; unknown fields are ignored, missing ones get their defaults.

    Raises ValueError when it is no job.
    """
    job = _decode(FirmwareJob, record)
    if not isinstance(job, FirmwareJob) or not _JOB_ID.fullmatch(job.job_id):
        raise ValueError("no job id")
    return job


def decode_all(records: Iterable[object]) -> list[FirmwareJob]:
    """Return the jobs that can be read, oldest first; what cannot is said and left out."""
    jobs: dict[str, FirmwareJob] = {}
    for record in records:
        try:
            job = decode(record)
        except ValueError as err:
            _LOGGER.warning("A stored job cannot be read and is left out: %s", err)
            continue
        jobs[job.job_id] = job
    return [jobs[job_id] for job_id in sorted(jobs)]


def to_drop(jobs: Iterable[FirmwareJob], limit: int = KEPT_JOBS) -> list[FirmwareJob]:
    """Return the jobs that are too old to be kept.

    Active jobs, the newest ``limit`` ones and the newest ended one of each device are kept.
    """
    newest_first = sorted(jobs, key=lambda job: job.job_id, reverse=True)
    if len(newest_first) <= limit:
        return []
    seen: set[str] = set()
    drop = []
    for index, job in enumerate(newest_first):
        newest_of_device = job.terminal and job.request.configuration not in seen
        if job.terminal:
            seen.add(job.request.configuration)
        if index >= limit and job.terminal and not newest_of_device:
            drop.append(job)
    return drop


def _encode(value: object) -> object:
    if is_dataclass(value):
        return {
            each.name: _encode(getattr(value, each.name))
            for each in fields(value)
            if not each.name.startswith("_")
        }
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {_encode(key): _encode(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_encode(each) for each in value]
    return value


@functools.cache
def _types(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)


def _decode(kind: object, value: object) -> object:
    """Return ``value`` as ``kind``; raises ValueError where it does not fit."""
    origin = typing.get_origin(kind)
    if isinstance(kind, UnionType):
        return _decode_union(kind, value)
    if origin is tuple:
        return tuple(_decode(typing.get_args(kind)[0], each) for each in _list(value))
    if origin in {Mapping, dict}:
        key_kind, value_kind = typing.get_args(kind)
        return {
            _decode(key_kind, key): _decode(value_kind, each) for key, each in _dict(value).items()
        }
    if isinstance(kind, type):
        if is_dataclass(kind):
            return _decode_dataclass(kind, _dict(value))
        return _decode_scalar(kind, value)
    raise TypeError(f"no stored form for {kind}")


def _decode_union(kind: UnionType, value: object) -> object:
    (other,) = (each for each in typing.get_args(kind) if each is not NoneType)
    return None if value is None else _decode(other, value)


def _decode_dataclass(kind: type, record: dict[object, object]) -> object:
    values: dict[str, object] = {}
    for each in fields(kind):
        if each.name in record and not each.name.startswith("_"):
            try:
                values[each.name] = _decode(_types(kind)[each.name], record[each.name])
            except ValueError as err:
                raise ValueError(f"{each.name}: {err}") from err
        elif each.default is MISSING and each.default_factory is MISSING:
            raise ValueError(f"{each.name} is missing")
    return kind(**values)


def _decode_scalar(kind: type, value: object) -> object:
    if issubclass(kind, StrEnum):
        return kind(str(value))
    if kind is datetime:
        if not isinstance(value, str):
            raise ValueError("not a time")
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("a time without a zone")
        return moment
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"not {kind.__name__}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("not a list")  # noqa: TRY004 - bad data, not a bad call
    return value


def _dict(value: object) -> dict[object, object]:
    if not isinstance(value, dict):
        raise ValueError("not a mapping")  # noqa: TRY004 - bad data, not a bad call
    return value
