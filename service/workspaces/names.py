"""An email is hostile text: what of it is taken, and what a workspace is called by it.

The slug fits a label of DNS, a Linux user's name and the path of a unix socket. Its last part is a hash of the whole
email: `a.b@` and `a-b@` differ. The branch is the email where git takes it as the name of a branch, else the slug.
"""

import base64
import hashlib
import re
import unicodedata
from typing import Final

from service.errors import SandboxError

EMAIL_LIMIT: Final = 254
LABEL_LIMIT: Final = 63  # of DNS: between two dots
LOCAL_LIMIT: Final = 20
BRANCH_BYTES: Final = 250  # git keeps a branch in a file of its name, and locks it by one with .lock behind that
EXAMPLE: Final = "jo@example.org"
TOO_LONG: Final = f"an email has at most {EMAIL_LIMIT} characters, as in {EXAMPLE}; this one is longer"
SLUG: Final = re.compile(r"w-[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?-[a-z2-7]{8}")
SIGNS: Final = frozenset("!#$%&'*+/=?^_`{|}~.-")  # beside letters and digits, before the @
REFUSED_IN_A_BRANCH: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|(^|/)\.|\.lock(/|$)|^[-/]|[/.]$|^@$")


class BadEmail(SandboxError):
    """A text is no email that a workspace can be made for; the message says why."""


def email(text: str) -> str:
    """Returns it as it is stored and compared: normalized, in lower case.

    A host without a dot is taken, as in jo@mail: nothing is sent there, and an intranet has such ones.
    """
    if len(text) > 4 * EMAIL_LIMIT:
        raise BadEmail(TOO_LONG)
    normal = unicodedata.normalize("NFKC", text.strip(" ")).lower()
    normal = unicodedata.normalize("NFKC", normal)
    if len(normal) > EMAIL_LIMIT:
        raise BadEmail(TOO_LONG)
    local, at, domain = normal.rpartition("@")
    if not (local and at and domain) or "@" in local:
        raise BadEmail(f"an email has one @, with something before and something behind it, as in {EXAMPLE}")
    _refuse_odd(local, SIGNS, "before")
    _refuse_odd(domain, frozenset("-."), "behind")
    for label in domain.split("."):
        if not 0 < len(label) <= LABEL_LIMIT or "-" in (label[0], label[-1]):
            raise BadEmail(
                f"what stands behind the @ is no name of a host: between its dots are 1 to {LABEL_LIMIT} characters, "
                "and none of them begins or ends with a -, as in example.org"
            )
    return normal


def _refuse_odd(text: str, signs: frozenset[str], where: str) -> None:
    for char in text:
        if not (_is_word(char) or char in signs):
            raise BadEmail(f"{_named(char)} stands {where} the @, where no email has it; write it as in {EXAMPLE}")


def _named(char: str) -> str:
    if char == " ":
        return "a space"
    return repr(char) if char.isprintable() else f"the character U+{ord(char):04X}, which cannot be seen,"


def _is_word(char: str) -> bool:
    """A letter, a digit, or an accent on the letter before it."""
    return unicodedata.category(char)[0] in "LN" or unicodedata.category(char) in ("Mn", "Mc")


def slug(of_email: str) -> str:
    local = of_email.rpartition("@")[0]
    plain = unicodedata.normalize("NFKD", local).encode("ascii", "ignore").decode().lower()
    shown = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:LOCAL_LIMIT].strip("-") or "x"
    digest = hashlib.blake2b(of_email.encode(), digest_size=5).digest()
    return f"w-{shown}-{base64.b32encode(digest).decode().lower()}"


def is_slug(text: str) -> bool:
    return SLUG.fullmatch(text) is not None


def branch(of_email: str) -> str:
    is_refused = REFUSED_IN_A_BRANCH.search(of_email) or len(of_email.encode()) > BRANCH_BYTES
    return slug(of_email) if is_refused else of_email
