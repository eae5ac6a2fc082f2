"""An ASGI endpoint that answers POST /rank with constants: what HTTP alone costs.

`uvicorn benchmarks.serving.bare:app`; BARE_ITEMS of the environment is the number of items that it answers with.
"""

import os

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def answer(items: int) -> bytes:
    """As long as a ranking of so many items for two tasks."""
    scores = [1 / (place + 1.7) for place in range(items)]
    said = {"items": list(range(items)), "scores": scores, "probabilities": {"click": scores, "order": scores}}
    return orjson.dumps(said)


ANSWER = answer(int(os.environ.get("BARE_ITEMS", "200")))


async def rank(request: Request) -> Response:
    """Read the body, say the same as ever."""
    await request.body()
    return Response(ANSWER, media_type="application/json")


async def ready(_: Request) -> Response:
    """Always."""
    return Response()


app = Starlette(routes=[Route("/rank", rank, methods=["POST"]), Route("/readyz", ready)])
