"""An ASGI application with constant answers to POST /rank: the cost of HTTP alone.

`uvicorn benchmarks.serving.bare:app`; the environment variable BARE_ITEMS is the number of items of its answer.
"""

import os

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def answer(items: int) -> bytes:
    """A JSON document as long as a ranking of `items` items for two tasks."""
    scores = [1 / (index + 1.7) for index in range(items)]
    document = {"items": list(range(items)), "scores": scores, "probabilities": {"click": scores, "order": scores}}
    return orjson.dumps(document)


ANSWER = answer(int(os.environ.get("BARE_ITEMS", "200")))


async def rank(request: Request) -> Response:
    """Read the body and return the constant answer."""
    await request.body()
    return Response(ANSWER, media_type="application/json")


async def ready(_: Request) -> Response:
    """Return 200."""
    return Response()


app = Starlette(routes=[Route("/rank", rank, methods=["POST"]), Route("/readyz", ready)])
