"""The sign-in pages' HTML: forms that work without a script. Whatever comes from outside is escaped here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape

from starlette.responses import HTMLResponse

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;background:#f4f4f1;color:#1d1d1b;margin:0}
main{max-width:26rem;margin:12vh auto;padding:2rem;background:#fff;border:1px solid #d9d9d2;border-radius:8px}
h1{font-size:1.25rem;margin:0 0 1rem}label{display:block;margin:.75rem 0 .25rem}
input{width:100%;box-sizing:border-box;font:inherit;padding:.5rem;border:1px solid #8a8a84;border-radius:4px}
button,.button{font:inherit;margin:1rem .5rem 0 0;padding:.5rem 1rem;border:1px solid #1d4e89;border-radius:4px;
background:#1d4e89;color:#fff;text-decoration:none;display:inline-block}
button.plain{background:#fff;color:#1d4e89}ul{padding-left:1.25rem}.wrong{color:#a4161a}.quiet{color:#5c5c57}
code{overflow-wrap:anywhere}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'"


def page(title: str, body: str, *, status: int = 200, to: Iterable[str] = ()) -> HTMLResponse:
    """A page that runs nothing and stands in no frame.

    Args:
        body: HTML, escaped already.
        to: where its forms may lead in the end, beside this gateway: browsers check the redirect as well.
    """
    forms = " ".join(("'self'", *to))
    policy = f"{_POLICY}; form-action {forms}"
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)} - Gatehouse</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(html, status, {"Content-Security-Policy": policy})


def failure(title: str, message: str, status: int = 400) -> HTMLResponse:
    """A page that says what went wrong."""
    return page(title, f"<p>{escape(message)}</p>", status=status)


def sign_in(next_path: str, *, provider: str | None, email: str = "", wrong: str | None = None) -> HTMLResponse:
    """The form for email and password.

    Args:
        provider: address to sign in by an identity provider, where one is configured.
    """
    other = f'<p><a class="button" href="{escape(provider)}">Sign in with your organisation</a></p>' if provider else ""
    body = (
        f'{_wrong(wrong)}<form method="post" action="/login">{_hidden("next", next_path)}'
        f'<label for="email">Email</label><input id="email" name="email" type="email" value="{escape(email)}" '
        'autocomplete="username" required autofocus>'
        '<label for="password">Password</label><input id="password" name="password" type="password" '
        'autocomplete="current-password" required><button>Sign in</button></form>'
    )
    return page("Sign in", body + other, status=401 if wrong else 200)


def second_factor(next_path: str, ticket: str, *, wrong: str | None = None) -> HTMLResponse:
    """The form for a code."""
    body = (
        f'{_wrong(wrong)}<form method="post" action="/login/code">'
        f"{_hidden('next', next_path)}{_hidden('ticket', ticket)}"
        '<label for="code">Code of your authenticator app, or a recovery code</label>'
        '<input id="code" name="code" autocomplete="one-time-code" required autofocus><button>Go on</button></form>'
    )
    return page("Sign in", body, status=401 if wrong else 200)


def consent(
    sealed: str,
    *,
    client: str,
    host: str | None,
    redirect: str,
    address: str,
    scopes: Iterable[str],
    email: str,
    to: str,
) -> HTMLResponse:
    """The question whether a client may have what it asks for.

    Args:
        host: where the client's document is; nothing else of what it says of itself is proved.
        redirect: where the answer goes.
        scopes: in words.
        to: the redirect's source for the policy.
    """
    items = "".join(f"<li>{escape(words)}</li>" for words in scopes)
    proved = f"Its document is at <code>{escape(host)}</code>." if host else "Nobody has checked its name."
    body = (
        f"<p><strong>{escape(client)}</strong> asks for access to <code>{escape(address)}</code> in your name "
        f"({escape(email)}).</p><ul>{items}</ul>"
        f'<p class="quiet">{proved} The answer goes to <code>{escape(redirect)}</code>.</p>'
        f'<form method="post" action="/oauth/consent">{_hidden("wish", sealed)}'
        '<button name="answer" value="allow">Allow</button>'
        '<button class="plain" name="answer" value="deny">Deny</button></form>'
    )
    return page("Allow access?", body, to=(to,))


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{name}" value="{escape(value)}">'


def _wrong(message: str | None) -> str:
    return f'<p class="wrong" role="alert">{escape(message)}</p>' if message else ""
