"""The environment and the command, without what looks like a secret. See docs/format.md."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

MASK = "***"
LONGEST = 1000
"""Characters of a value that are kept."""
_NAMES = re.compile(
    r"(?:^|_|-)(?:key|keys|apikey|token|tokens|secret|secrets|pass|passwd|password|passphrase|passcode|pwd|cred|creds|"
    r"credential|credentials|auth|authorization|bearer|cookie|cookies|session|signature|private|salt|otp|dsn|"
    r"webhook|jwt|sas|connection_string|database_url|license)(?:$|_|-|\d)"
    r"|api_?key|access_?key|secret|passw|token$|credential",
    re.IGNORECASE,
)
_HARMLESS = frozenset({"PWD", "OLDPWD", "TOKENIZERS_PARALLELISM", "SSH_AUTH_SOCK", "XDG_SESSION_TYPE"})
_PREFIXES = re.compile(
    r"(?:\b|_)(?:sk-|pk-|rk_|sk_|pk_|gh[pousr]_|github_pat_|glpat-|gldt-|hf_|xox[abeoprs]-|xapp-|AKIA|ASIA|AGPA|AIza|"
    r"ya29\.|npm_|pypi-|dop_v1_|SG\.|shpat_|eyJ[A-Za-z0-9_-]{8,}\.|AccountKey=|SharedAccessSignature|-----BEGIN)"
    r"|-----BEGIN"
)
_URL_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s@:]*:[^/\s@]+@")
_QUERY_SECRET = re.compile(
    r"[?&;](?:[^=&\s]*(?:key|token|secret|sig|signature|password)[^=&\s]*)=", re.IGNORECASE
)
_JOINED = re.compile(r"[A-Za-z0-9+/_=-]{20,}")
_WORDS = re.compile(r"[a-z]{3,}|[A-Z][a-z]{2,}|[A-Z]{3,}")
_FLAG = re.compile(r"--?(?P<name>[A-Za-z][A-Za-z0-9_.-]*)(?:=(?P<value>.*))?", re.DOTALL)


def shown(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that may be stored. What is left out is left out with its name."""
    return {
        name: _text(value)
        for name, value in sorted(environment.items())
        if not (is_secret_name(name) or is_secret(value) or is_secret(name))
    }


def masked(words: list[Any]) -> list[Any]:
    """The words of a command, with ``***`` for those that look like a secret or follow a flag named for one."""
    done: list[Any] = []
    hidden = False
    for word in words:
        if not isinstance(word, str):
            done.append(word)
            continue
        flag = _FLAG.fullmatch(word)
        named = flag is not None and is_secret_name(flag["name"])
        if hidden and not word.startswith("-"):
            done.append(MASK)
        elif flag is not None and flag["value"] is not None and (named or is_secret(flag["value"])):
            done.append(f"{word[: flag.start('value')]}{MASK}")
        elif flag is None and _assigned(word):
            done.append(f"{word.partition('=')[0]}={MASK}")
        else:
            done.append(MASK if flag is None and is_secret(word) else word)
        hidden = named and flag is not None and flag["value"] is None
    return done


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret, by its words."""
    return name.upper() not in _HARMLESS and _NAMES.search(name) is not None


def is_secret(value: str) -> bool:
    """Whether a value looks like a credential."""
    if _PREFIXES.search(value) or _URL_PASSWORD.search(value) or _QUERY_SECRET.search(value):
        return True
    if "/" in value and not value.startswith(("/", ".", "~")) and "://" not in value and ":" not in value:
        return any(map(_random, _JOINED.findall(value)))
    return any(map(_random, re.findall(r"[A-Za-z0-9+=_-]{20,}", value)))


def _assigned(word: str) -> bool:
    """``name=secret``, as some programs take their settings."""
    name, sign, value = word.partition("=")
    return bool(sign) and (is_secret_name(name) or is_secret(value))


def _random(text: str) -> bool:
    """Letters and digits that no words explain: 20 or more, of both kinds, evenly used."""
    if not (re.search(r"\d", text) and re.search(r"[A-Za-z]", text)):
        return False
    rest = _WORDS.sub("", text) if not re.fullmatch(r"[0-9a-f-]+", text) else text
    if len(re.sub(r"[_=-]", "", rest)) < 12:
        return False
    counts = Counter(text)
    bits = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return bits > 3.0


def _text(value: str) -> str:
    clean = value.encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= LONGEST else clean[:LONGEST] + "\N{HORIZONTAL ELLIPSIS}"
