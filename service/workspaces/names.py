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
LOCAL_LIMIT: Final = 20
SLUG: Final = re.compile(r"w-[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?-[a-z2-7]{8}")
SIGNS: Final = frozenset("!#$%&'*+/=?^_`{|}~.-")  # beside letters and digits, before the @
REFUSED_IN_A_BRANCH: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|(^|/)\.|\.lock(/|$)|^[-/]|[/.]$|^@$")


class BadEmail(SandboxError):
    """A text is no email that a workspace can be made for; the message says why."""


def email(text: str) -> str:
    """Returns it as it is stored and compared: normalized, in lower case."""
    if len(text) > 4 * EMAIL_LIMIT:
        raise BadEmail(f"the email has more than {EMAIL_LIMIT} characters")
    normal = unicodedata.normalize("NFKC", text.strip(" ")).lower()
    normal = unicodedata.normalize("NFKC", normal)
    if len(normal) > EMAIL_LIMIT:
        raise BadEmail(f"the email has more than {EMAIL_LIMIT} characters")
    local, at, domain = normal.rpartition("@")
    if not (local and at and domain) or "@" in local:
        raise BadEmail("an email has one @, with something before and something behind it, as in jo@example.org")
    if not all(_is_word(char) or char in SIGNS for char in local):
        raise BadEmail("the part before the @ has a character that no email has there")
    labels = domain.split(".")
    if not all(label and label[0] != "-" and label[-1] != "-" for label in labels):
        raise BadEmail("the part behind the @ is no name of a domain")
    if not all(_is_word(char) or char == "-" for label in labels for char in label):
        raise BadEmail("the part behind the @ is no name of a domain")
    return normal


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
    return slug(of_email) if REFUSED_IN_A_BRANCH.search(of_email) else of_email
