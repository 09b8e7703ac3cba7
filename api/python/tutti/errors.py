"""What can go wrong. Every error's text says what to do where there is something to do."""
from __future__ import annotations

from typing import Any, Mapping, Optional


class TuttiError(Exception):
    """Anything this package raises."""


class NotReachable(TuttiError):
    """No scheduler answered, after all retries. Nothing is known of what was asked."""


class WaitTimeout(TuttiError):
    """`Client.wait` came to the end of its patience. The job goes on."""


class ServerError(TuttiError):
    """The scheduler refused: RFC 9457 `application/problem+json`, as an exception."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code: str = str(problem.get("code") or problem.get("title") or "")
        self.detail: str = str(problem.get("detail") or f"status {status}")
        self.hint: str = str(problem.get("hint") or "")
        errors = problem.get("errors") or []
        self.errors = [dict(e) for e in errors if isinstance(e, Mapping)]
        super().__init__(self.detail + (f" ({self.hint})" if self.hint else ""))

    @property
    def field(self) -> Optional[str]:
        """The first field that is wrong, as in "resources.gpus"; None where no field is to blame."""
        return str(self.errors[0].get("field") or "") or None if self.errors else None
