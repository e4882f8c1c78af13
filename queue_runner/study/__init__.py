"""Study files and Study objects: a template, a space of parameters, and the jobs they make."""

from queue_runner.study.load import json_schema, load_study
from queue_runner.study.parameters import linear, log, range_, sample
from queue_runner.study.study import Study, StudySummary

__all__ = [
    "Study",
    "StudySummary",
    "json_schema",
    "linear",
    "load_study",
    "log",
    "range_",
    "sample",
]
