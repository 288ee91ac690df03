"""Clients of `memorycell serve`: many live sessions over one connection.

    from memorycell.client import Client

    with Client("http://127.0.0.1:8000") as client:
        session = client.open("glucose", durable="step")
        print(session.feed({"datetime": "2010-10-11 00:02:00", "glucose": 160, "isig": 29.1}))

`AsyncClient` has the same methods as coroutines. Both need the extra `serve`.
"""

from memorycell.client.asynchronous import AsyncClient
from memorycell.client.blocking import Client, ClientSession
from memorycell.client.messages import Answer, Gates
from memorycell.client.problems import AnswerLostError, ProblemError, StepError
from memorycell.client.sessions import AsyncSession

__all__ = [
    "Answer",
    "AnswerLostError",
    "AsyncClient",
    "AsyncSession",
    "Client",
    "ClientSession",
    "Gates",
    "ProblemError",
    "StepError",
]
