"""Keep the Chinese twins of pages and programs in step: `python docs/twins.py` copies the code.

A twin has the headings and the code of its original in the same order, and its text in Chinese. The
twin of a page `NAME.md` is `NAME.zh.md` beside it; that of a program `examples/NAME.py` is
`docs/zh/NAME.zh.md`. `tests/integration/test_twins.py` compares them. This script replaces the code
of the twins by that of the originals, where there is as much of it; headings and text are for
people to translate.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^(```\S*)\n(.*?)^```$", re.S | re.M)


def originals() -> dict[Path, Path]:
    """The original of each twin."""
    found = {}
    for twin in (*ROOT.glob("*.zh.md"), *(ROOT / "docs").rglob("*.zh.md")):
        page = twin.with_name(twin.name.replace(".zh.md", ".md"))
        program = ROOT / "examples" / twin.name.replace(".zh.md", ".py")
        if "generated" not in twin.parts:
            found[twin] = page if page.exists() else program
    return found


def code_of_page(text: str) -> list[str]:
    """The code blocks of a Markdown page, in order; Sphinx's directives are none."""
    return [code for fence, code in BLOCK.findall(text) if "{" not in fence]


def levels_of_page(text: str) -> list[int]:
    """The levels of the headings of a Markdown page, in order."""
    return [len(marks) for marks in re.findall(r"^(#+) ", BLOCK.sub("", text), re.M)]


def cells(program: str) -> list[tuple[str, str]]:
    """Text and code of each cell of a program; the first text is its docstring."""
    _, docstring, rest = program.split('"""', 2)
    found = []
    for cell in re.split(r"^# %%\n", rest, flags=re.M):
        lines = cell.split("\n")
        n = 0
        if found:  # the first cell has its text in the docstring
            while n < len(lines) and lines[n].startswith("#"):
                n += 1
        text = "\n".join(line[2:] for line in lines[:n])
        found.append((text if found else docstring, "\n".join(lines[n:]).strip("\n")))
    return found


def code_of_program(program: str) -> list[str]:
    return [code + "\n" for _, code in cells(program) if code]


def levels_of_program(program: str) -> list[int]:
    """1 for the title, 2 for each heading of a cell."""
    levels = {"=": 1, "-": 2}
    return [
        levels[marks[0]]
        for text, _ in cells(program)
        for marks in re.findall(r"^(={3,}|-{3,})$", text, re.M)
    ]


def code_and_levels(path: Path) -> tuple[list[str], list[int]]:
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return code_of_program(text), levels_of_program(text)
    return code_of_page(text), levels_of_page(text)


def main() -> None:
    for twin, original in originals().items():
        text = twin.read_text("utf-8")
        code, _ = code_and_levels(original)
        there = code_of_page(text)
        if len(code) != len(there):
            print(f"{twin.name} has {len(there)} blocks of code, {original.name} {len(code)}")
            continue
        left = iter(code)

        def renewed(match: re.Match, left=left) -> str:
            return match[0] if "{" in match[1] else f"{match[1]}\n{next(left)}```"

        twin.write_text(BLOCK.sub(renewed, text), "utf-8")


if __name__ == "__main__":
    main()
