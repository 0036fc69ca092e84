"""The service over HTTP, with FastAPI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException
from orchestrator import Orchestrator
from pydantic import BaseModel

from mcpcore import OutcomeUnknown, Rejected
from mcpcore.observe.endpoint import application


class Wanted(BaseModel):
    """The body of a deployment."""

    image: str
    who: str


def web(service: Orchestrator) -> FastAPI:
    """The routes. Errors of mcpcore become statuses: 503 is safe to repeat, 504 is not."""
    app = FastAPI(title="orchestrator")

    @app.put("/deployments/{name}")
    async def deploy(name: str, wanted: Wanted) -> dict[str, Any]:
        try:
            outcome = await service.deploy(wanted.who, name, wanted.image)
        except PermissionError as why:
            raise HTTPException(403, str(why)) from why
        except ValueError as why:
            raise HTTPException(409, str(why)) from why
        except Rejected as why:
            raise HTTPException(503, str(why)) from why
        except OutcomeUnknown as why:
            raise HTTPException(504, str(why)) from why
        return {"saga": outcome.saga, "status": outcome.status.value, "why": outcome.why}

    @app.get("/deployments/{name}")
    async def look(name: str) -> dict[str, Any]:
        try:
            found = await service.find(name)
        except Rejected as why:
            raise HTTPException(503, str(why)) from why
        if found is None:
            raise HTTPException(404, f"nothing is known of {name}")
        return {"image": found.image, "state": found.state, "why": found.why}

    @app.post("/operators/{who}")
    async def permit(who: str) -> dict[str, Any]:
        await service.permit(who)
        return {"pending": len(service.node.policy("policy").pending())}

    @app.post("/freezes/{name}")
    async def freeze(name: str) -> dict[str, Any]:
        await service.freeze(name)
        return {"frozen": name}

    @app.get("/verdict")
    async def verdict() -> dict[str, Any]:
        told = service.node.group("main").verdict
        return {} if told is None else told.as_dict()

    app.mount("/", application(service.node))
    return app
