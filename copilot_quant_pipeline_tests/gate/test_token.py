"""Claims about the token: what shows it, and where it is left out."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.gate.token import cookie_of, expect_token, is_in_url, is_shown, without_token

TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


@given(TOKENS, TOKENS)
def test_a_token_is_shown_by_its_header_its_cookie_or_its_url_alone(token: str, other: str) -> None:
    name, value = cookie_of(token)
    assert is_shown(token, [f"Bearer {token}"], {})
    assert is_shown(token, [], {name: value})
    assert is_in_url(token, f"a=b&token={quote(token, safe='')}")
    assert token not in value or len(token) < 8
    if token != other:
        assert not is_shown(token, [f"Bearer {other}", token, f"Basic {token}"], dict([cookie_of(other)]))
        assert not is_shown(token, [], {name: token})
        assert not is_in_url(token, f"token={quote(other, safe='')}&a={quote(token, safe='')}")
    assert not is_shown(token, [], {})
    assert not is_in_url(token, "")


def test_a_plus_in_a_token_may_be_written_as_such() -> None:
    assert is_in_url("a+b=", "token=a+b=")


@given(st.text(), st.lists(st.tuples(st.sampled_from(["a", "token", "q[0]"]), TOKENS)))
def test_the_address_without_the_token_stays_on_this_server(path: str, fields: list[tuple[str, str]]) -> None:
    query = "&".join(f"{quote(name)}={quote(value)}" for name, value in fields)
    there = without_token(path, query)
    split = urlsplit(there)
    assert (split.scheme, split.netloc) == ("", "")
    assert there.startswith("/")
    assert not there.startswith(("//", "/\\"))
    assert "token=" not in split.query
    assert split.query.count("=") == sum(name != "token" for name, _ in fields)


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "\\\\evil.example", "///evil.example/a"])
def test_no_address_leads_elsewhere(path: str) -> None:
    assert without_token(path, "token=a").startswith("/evil.example")


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "10.0.0.5", "dagit.example.com", "127.1", "0", "localhost.x"])  # noqa: S104
def test_other_machines_are_served_with_a_token_only(host: str) -> None:
    with pytest.raises(UserError, match="set COPILOT_QUANT_TOKEN"):
        expect_token(host, None)
    expect_token(host, "secret")


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST", "127.3.2.1", "::1"])
def test_this_machine_is_served_without(host: str) -> None:
    expect_token(host, None)
