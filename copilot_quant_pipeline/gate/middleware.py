"""The gate as ASGI middleware: in front of an application, of which refused requests see nothing.

Here: the facts of a request, the answer to one that is refused, the cookie given for a token, a websocket's messages.
Not here: what is refused and why (refusals), what a token is compared with (token).
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from copilot_quant_pipeline.gate.refusals import (
    NO_TOKEN,
    READING,
    Facts,
    Judge,
    Refusal,
    Rules,
    judge_message,
    judge_sender,
)
from copilot_quant_pipeline.gate.token import KEPT, cookie_of, is_in_url, is_shown, without_token

# A page of another origin may not hold Dagit in a frame, under whose cover an operator would press what it wants.
_FRAMED = {"X-Frame-Options": "SAMEORIGIN"}
_UNKEPT = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
_POLICY_VIOLATED = 1008


class Gate:
    """Lets requests through to `app` that `rules` let in and, of those below `under`, `judge` does not refuse.

    What does not lie below `under` is let through unseen.
    """

    def __init__(self, app: ASGIApp, rules: Rules, judge: Judge, under: str = "/") -> None:
        self._app, self._rules, self._judge, self._under = app, rules, judge, under

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket."""
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith(self._under):
            await self._app(scope, receive, send)
            return
        answer = self._answer(scope)
        if answer:
            await answer(scope, receive, send)
        elif scope["type"] == "websocket":
            listening = _Listening(receive, send)
            await self._app(scope, listening.receive, listening.send)
        else:
            await self._app(scope, receive, _framed(send))

    def _answer(self, scope: Scope) -> Response | None:
        facts = facts_of(scope)
        refusal = judge_sender(facts, self._rules)
        if refusal is None and self._rules.token:
            connection = HTTPConnection(scope)
            shown = is_shown(self._rules.token, connection.headers.getlist("authorization"), connection.cookies)
            if facts.method in READING and is_in_url(self._rules.token, facts.query):
                return _given(self._rules.token, facts, scope["scheme"])
            if not shown:
                return _asked_again(facts) or _refused(NO_TOKEN)
        refusal = refusal or self._judge(facts, self._rules)
        return _refused(refusal) if refusal else None


class _Listening:
    """A websocket whose messages are judged; the first that is refused ends it."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send, self._is_over = receive, send, False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return message
        refusal = judge_message(message.get("text") or (message.get("bytes") or b"").decode("utf-8", "replace"))
        if refusal is None:
            return message
        await self.send({"type": "websocket.close", "code": _POLICY_VIOLATED, "reason": refusal.says})
        self._is_over = True
        return {"type": "websocket.disconnect", "code": _POLICY_VIOLATED, "reason": refusal.says}

    async def send(self, message: Message) -> None:
        # What was subscribed to before goes on for a moment.
        if not self._is_over:
            await self._send(message)


def facts_of(scope: Scope) -> Facts:
    """What a request says of itself, of an ASGI scope of http or websocket."""
    headers, server = Headers(scope=scope), scope.get("server")
    return Facts(
        method=scope["method"] if scope["type"] == "http" else "WEBSOCKET",
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        hosts=tuple(headers.getlist("host")),
        origins=tuple(headers.getlist("origin")),
        content_types=tuple(headers.getlist("content-type")),
        site=headers.get("sec-fetch-site", "").lower(),
        mode=headers.get("sec-fetch-mode", "").lower(),
        destination=headers.get("sec-fetch-dest", "").lower(),
        arrived_at=server[0] if server else "",
    )


def _refused(refusal: Refusal) -> Response:
    asks = {"WWW-Authenticate": "Bearer"} if refusal.status == NO_TOKEN.status else {}
    return PlainTextResponse(refusal.says + "\n", refusal.status, {**_UNKEPT, **asks})


def _given(token: str, facts: Facts, scheme: str) -> Response:
    """The same address without the token, which the browser shows by its cookie from now on."""
    answer = RedirectResponse(without_token(facts.path, facts.query), 303, _UNKEPT)
    name, value = cookie_of(token)
    answer.set_cookie(name, value, max_age=KEPT, secure=scheme == "https", httponly=True, samesite="strict")
    return answer


def _asked_again(facts: Facts) -> Response | None:
    """For a link on another site's page, with which a browser sends no strict cookie: have it come from here."""
    if facts.site not in ("cross-site", "same-site"):
        return None
    return PlainTextResponse("Opening Dagit.\n", NO_TOKEN.status, {**_UNKEPT, "Refresh": "0"})


def _framed(send: Send) -> Send:
    async def send_framed(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_FRAMED)
        await send(message)

    return send_framed
