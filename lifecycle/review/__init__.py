"""The policy review page: what is promised, by which rule, proved how, and what it means for accounts.

:func:`write` makes one self-contained file of HTML. It needs the extra ``review``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.errors import InvalidInput
from lifecycle.files import replacing
from lifecycle.policy import Policy

if TYPE_CHECKING:
    from lifecycle.engine import Engine

__all__ = ["write"]


def write(
    file: Path | str,
    policy: Policy,
    *,
    source: str = "",
    candidate: Policy | None = None,
    engine: "Engine | None" = None,
    prove: bool = True,
    on_progress: Callable[[int], None] = lambda more: None,
) -> None:
    """Write the page about ``policy`` into ``file``.

    ``source`` says where the policy comes from, ``candidate`` is another to be compared with it, ``engine`` lends its
    accounts, which are only counted. With ``prove`` the promises are verified under either policy, which takes seconds;
    ``on_progress`` hears how many situations more were explored. Raises
    :class:`InvalidInput` where the extra is missing, and where ``file`` can't be written.
    """
    try:
        from lifecycle.review.page import page
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("lifecycle"):
            raise
        raise InvalidInput("The review page needs an extra: pip install 'account-lifecycle[review]'.") from error
    from lifecycle.comparison import compare
    from lifecycle.impact import impact
    from lifecycle.review.standing import standing
    from lifecycle.verify import verify

    policies = [one for one in (policy, candidate) if one is not None]
    with replacing(file) as written:  # first, since the proofs take seconds
        text = page(
            policy,
            source=source,
            candidate=candidate,
            verifications=[verify(one, on_progress=on_progress) for one in policies] if prove else (),
            standing=None if engine is None else standing(engine),
            comparison=compare(policy, candidate) if candidate else None,
            impact=impact(engine, candidate) if engine and candidate else None,
        )
        written.write(text.encode())
