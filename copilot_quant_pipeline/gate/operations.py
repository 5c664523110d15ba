"""What a GraphQL document would do, as the library that executes it reads it.

Here: the documents of a URL and of a websocket's message, and the kinds of operation they hold.
Not here: which kinds may come which way (refusals).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl


def changes_something(document: str) -> bool:
    """Whether any operation of `document` is a mutation, whichever of them is named to be executed.

    What cannot be read cannot be executed either: Dagit reads it with the same parser.

    Raises:
        RecursionError: It is nested deeper than it can be read.
    """
    # Not at the top: only requests that carry a document need it, and the sandbox's never do.
    from graphql import GraphQLError, OperationDefinitionNode
    from graphql.language.parser import Parser

    try:
        # As `parse` does, which takes for unreadable what is nested too deep here and perhaps not where it is executed.
        definitions = Parser(document, no_location=True).parse_document().definitions
    except GraphQLError:
        return False
    return any(isinstance(one, OperationDefinitionNode) and one.operation.value == "mutation" for one in definitions)


def documents_of_url(query: str) -> list[str]:
    """The GraphQL documents in a URL's query string."""
    return [value for name, value in parse_qsl(query, keep_blank_values=True) if name == "query"]


def documents_of_message(message: str) -> list[str]:
    """The GraphQL documents in a websocket's message, of either protocol; none where it is not JSON.

    Raises:
        RecursionError: It is nested deeper than it can be read.
    """
    try:
        return list(_documents_in(json.loads(message)))
    except ValueError:
        return []


def _documents_in(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _documents_in(one)
    elif isinstance(value, dict):
        if isinstance(value.get("query"), str):
            yield value["query"]
        yield from _documents_in(value.get("payload"))
