"""An email becomes a slug and a branch, whatever somebody types."""

import subprocess
from pathlib import Path

import pytest

from service.workspaces import names

GOOD = {
    "jo@example.org": "jo@example.org",
    " Jo.Bloggs+x@Example.ORG ": "jo.bloggs+x@example.org",
    "-x@example.org": "-x@example.org",
    "jürgen@bücher.example": "jürgen@bücher.example",
    "../../etc@example.org": "../../etc@example.org",
    "`reboot`@example.org": "`reboot`@example.org",
    "\uff4a\uff4f\uff20example.org": "jo@example.org",
    "jo@mail": "jo@mail",
}
BAD = [
    *("", "@", "jo", "jo@", "@example.org", "a@b@c", "jo @example.org", "jo@exa mple.org", "jo@-example.org"),
    *("jo@example..org", "jo@example.org\r\nX: y", "<script>@example.org", "jo@<b>", 'a"b@example.org', "a\x00b@c.d"),
    *("jo@" + "x" * 64 + ".org", "jo@example.org-"),
    *("\u202egro@example.org", "jo\u200b@example.org", "jo@exam/ple.org", "x" * 250 + "@b.cd", "x" * 100_000),
]
EMAILS = [
    *("jo@example.org", "-x@example.org", "a..b@x.y", "x~y@z.a", "y@z.lock", "a/b@x.y", "../b@x.y", "a/.b@x.y"),
    *(
        "a^b@x.y",
        "a*b@x.y",
        "a?b@x.y",
        "jürgen@bücher.example",
        "/a@x.y",
        "a.lock/b@x.y",
        "{a}@x.y",
        "a@{x}.y",
        ".a@b.c",
    ),
    *("`a`@x.y", "a|b@x.y", "a'b@x.y", "!a@x.y", "#a@x.y", "a//b@x.y", "a./b@x.y", "%s@x.y", "a&b@x.y"),
]


@pytest.mark.parametrize(("text", "email"), GOOD.items())
def test_an_email_is_stored_in_one_form(text: str, email: str) -> None:
    assert names.email(text) == names.email(names.email(text)) == email
    assert names.is_slug(names.slug(email))


@pytest.mark.parametrize("text", [*BAD, "$(reboot)@example.org"])
def test_what_is_no_email_is_refused(text: str) -> None:
    with pytest.raises(names.BadEmail):
        names.email(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jo bloggs@example.org", "a space stands before the @"),
        ('"jo"@example.org', "'\"' stands before the @"),
        ("jo@exa<mple.org", "'<' stands behind the @"),
        ("\u202egro@example.org", "the character U+202E, which cannot be seen, stands before the @"),
        ("jo@example.org\r\n", "the character U+000D, which cannot be seen, stands behind the @"),
        ("jo@al@example.org", "an email has one @"),
        ("jo@example..org", "is no name of a host"),
        ("x" * 250 + "@b.cd", "at most 254 characters"),
    ],
)
def test_a_refusal_names_what_is_wrong_and_shows_how_an_email_looks(text: str, words: str) -> None:
    with pytest.raises(names.BadEmail) as refused:
        names.email(text)
    assert words in str(refused.value) and "example.org" in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_slug_fits_a_label_of_dns_and_a_user_name_and_differs_where_emails_do() -> None:
    emails = [*EMAILS, "a.b@x.y", "a-b@x.y", "a+b@x.y", "x" * 100 + "@x.y", "---@x.y", "日本@x.y"]
    slugs = [names.slug(email) for email in emails]
    assert len(set(slugs)) == len(emails)
    assert all(names.is_slug(slug) and len(slug) <= 31 for slug in slugs)
    assert names.slug("a.b@x.y").startswith("w-a-b-") and names.slug("日本@x.y").startswith("w-x-")


@pytest.mark.parametrize(
    "text", ["", "w-a", "../w-a-aaaaaaaa", "w-a-aaaaaaaa/", "w-A-aaaaaaaa", "w-a-aaaaaaa1", "w--aaaaaaaa"]
)
def test_what_is_no_slug_is_none(text: str) -> None:
    assert not names.is_slug(text)


@pytest.mark.parametrize("email", EMAILS)
def test_the_branch_is_the_email_where_git_takes_it(email: str) -> None:
    words = ["git", "check-ref-format", "--branch", email]
    is_taken = subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert names.branch(email) == (email if is_taken else names.slug(email))


@pytest.mark.parametrize("local", ["日" * 79 + "a", "日" * 79 + "ab", "x" * 242])
def test_git_can_make_the_branch_of_a_long_email(local: str, tmp_path: Path) -> None:
    branch = names.branch(f"{local}@example.org")
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path)], check=True)
    [tree] = subprocess.run(
        ["git", "mktree"], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    words = ["git", "-c", "user.name=Jo", "-c", "user.email=jo@example.org", "commit-tree", "-m", "x", tree]
    made = subprocess.run(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    subprocess.run(["git", "update-ref", f"refs/heads/{branch}", made], cwd=tmp_path, check=True)
