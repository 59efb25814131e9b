"""Reading what is sent: JSON of a modest size and depth, text that can be kept."""

import io
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

BODY_LIMIT = 64 * 1024
"""Bytes. The REST framework reads a body past Django's own limit."""


class BoundedJSONParser(JSONParser):
    """JSON of a modest size and depth."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Parse, or say what is wrong.

        Raises:
            ParseError: too long, too deep, or not JSON.
        """
        body = stream.read(BODY_LIMIT + 1)
        if len(body) > BODY_LIMIT:
            raise ParseError(f"Send at most {BODY_LIMIT} bytes.")
        try:
            return super().parse(io.BytesIO(body), media_type, parser_context)
        except RecursionError:
            raise ParseError("Nested too deeply. Send one flat object.") from None
