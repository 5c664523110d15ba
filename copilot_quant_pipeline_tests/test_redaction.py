"""Claims about what no text may carry: secrets in any form, and characters that act on whoever shows them."""

from __future__ import annotations

import base64
import json
import logging
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.redaction import guard_log, hide, plain, presentable_json, redacted, secrets_of_url

SECRETS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=8, max_size=30).filter(
    lambda secret: "***" not in secret and "%" not in secret
)


@given(secret=SECRETS, name=st.text("abc", max_size=5))
def test_a_known_secret_is_hidden_in_every_form(secret: str, name: str) -> None:
    hide([secret])
    alone = base64.b64encode(f"{name}:{secret}".encode()).decode().rstrip("=")
    for form in (secret, quote(secret, safe=""), quote_plus(secret), alone):
        assert form not in redacted(f"it said {form} of it")
    assert json.loads(redacted(json.dumps({"why": f"no {secret}"})))["why"] != f"no {secret}"


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("http://127.0.0.1:9604/trade-api/v2", set()),
        ("https://gamma-api.polymarket.com/events", set()),
        ("jsons://hooks.quant.example/alerts", set()),
        ("http://user:p-w-d@host/x", {"user:p-w-d", "p-w-d"}),
        ("http://t0ken@host/x", {"t0ken"}),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdn", {"T1JJ3T3L2", "A1BRTD4JD", "TIiajkdn"}),
        ("https://host.example/x?pass=word&limit=20", {"word"}),
    ],
)
def test_of_a_url_only_what_is_secret_is_hidden(url: str, secrets: set[str]) -> None:
    assert set(secrets_of_url(url)) == secrets


def test_the_users_part_of_any_url_is_hidden() -> None:
    assert (
        redacted("tried ftp://me:pw@a.example/x, mail b@c.example") == "tried ftp://***@a.example/x, mail b@c.example"
    )


def test_a_secret_that_is_a_word_leaves_the_names_in_a_document_alone() -> None:
    hide(["dagster", "2024", "pa55-w0rd"])
    tags = {"dagster/partition": "2024-01-02|A"}
    said = {"message": "dagster 2024", "error": {"stack": ["a dagster"]}, "other": "pa55-w0rd"}
    told = {"message": "*** ***", "error": {"stack": ["a ***"]}, "other": "***"}
    assert json.loads(presentable_json(json.dumps({"tags": tags, **said}))) == {"tags": tags, **told}


def test_characters_that_act_are_replaced_and_lines_stay() -> None:
    assert plain("a\x1b[2J\x9b\u202eb\n\tc\r") == "a\ufffd[2J\ufffd\ufffdb\n\tc\ufffd"
    assert json.loads(presentable_json(json.dumps(["a\x1b\u2066\b\x7f", "\\u001b", "b\n"]))) == [
        "a\ufffd\ufffd\ufffd\ufffd",
        "\\u001b",
        "b\n",
    ]


def test_what_is_logged_with_a_secret_is_hidden_for_every_handler(caplog: pytest.LogCaptureFixture) -> None:
    guard_log()
    hide(["pa55w0rd"])
    try:
        raise ValueError("pa55w0rd")
    except ValueError:
        logging.getLogger("a.library").exception("with %s and %d", "pa55w0rd", 5, stack_info=True)
    assert "with *** and 5" in caplog.text
    assert "pa55w0rd" not in caplog.text.replace('"pa55w0rd"', "")
