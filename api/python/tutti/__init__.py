"""Tutti from Python: `Client` for people and services, `training` for the program that is trained.

    import tutti

    job = tutti.Client().submit({"name": "hello", "run": "python3 train.py", "resources": {"gpus": 1}})
    job = tutti.Client().wait(job["id"])

Standard library only. Both halves may be used from several threads.
"""
from . import training
from .client import Client
from .errors import NotReachable, ServerError, TuttiError, WaitTimeout

__all__ = ["Client", "NotReachable", "ServerError", "TuttiError", "WaitTimeout", "training"]
