"""Carry the repository's address from _config.yml to every copy of it.

Copies stand in badges, links, the citation, the package's metadata and the notebooks' install
cells. The address that they still show is the one in pyproject.toml.

    python .ci/address.py
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SITES = ("github.com", "raw.githubusercontent.com", "colab.research.google.com/github")
SLUG = r"[\w.-]+/[\w-]+(?:\.(?!git\b)[\w-]+)*"
COPY = re.compile(rf"(?P<site>{'|'.join(map(re.escape, SITES))})(?P<between>[/:])(?P<slug>{SLUG})")


def slug(url: str) -> str:
    """OWNER/NAME of a GitHub address.

    Raises:
        ValueError: the address is not of that form, so Colab could not open it.
    """
    match = re.fullmatch(rf"https://github\.com/({SLUG})", url)
    if match is None:
        raise ValueError(
            f"the repository's address is {url!r}: write it as https://github.com/OWNER/NAME"
            " in _config.yml, without a slash or .git at its end"
        )
    return match[1]


def wanted(root: Path) -> str:
    """OWNER/NAME as _config.yml has it."""
    return slug(yaml.safe_load((root / "_config.yml").read_text())["repository"]["url"])


def shown(root: Path) -> str:
    """OWNER/NAME as the copies have it."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return slug(project["urls"]["Repository"])


def text_files(root: Path) -> list[Path]:
    """The files of the repository that may hold a copy: text that is ours."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    return [
        root / name
        for name in sorted(set(filter(None, listed)))
        if "/vendor/" not in name and (root / name).is_file() and is_text(root / name)
    ]


def is_text(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


def replace(text: str, old: str, new: str) -> str:
    """The text with every link to repository ``old`` pointing at ``new``."""

    def renamed(match: re.Match[str]) -> str:
        if match["slug"].lower() != old.lower():
            return match[0]
        return f"{match['site']}{match['between']}{new}"

    return COPY.sub(renamed, text)


def rewrite(root: Path) -> list[Path]:
    """Write the wanted address over the shown one; returns the files that changed."""
    old, new = shown(root), wanted(root)
    changed = []
    for path in text_files(root):
        text = path.read_text(encoding="utf-8")
        renamed = replace(text, old, new)
        if renamed != text:
            path.write_text(renamed, encoding="utf-8")
            changed.append(path)
    return changed


def main() -> None:
    changed = rewrite(ROOT)
    for path in changed:
        print(path.relative_to(ROOT))
    print(f"{len(changed)} files changed; the address is https://github.com/{wanted(ROOT)}")


if __name__ == "__main__":
    main()
