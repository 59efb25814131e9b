"""docs/settings.md lists exactly the variables that portal/settings.py reads, with their types."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "portal" / "settings.py"
TABLE = ROOT / "docs" / "settings.md"


def variables_read(source: str) -> dict[str, str]:
    """Name → reader of every ``env.<reader>("NAME", …)`` in ``source``.

    Raises:
        ValueError: a name is computed or one name is read in two types, so no table could be checked.
    """
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="env")):
                raise ValueError(f"line {node.lineno}: env(…) names no type")
            case ast.Call(func=ast.Attribute(value=ast.Name(id="env"), attr=reader), args=arguments):
                match arguments:
                    case [ast.Constant(value=str(name)), *_]:
                        if found.setdefault(name, reader) != reader:
                            raise ValueError(f"line {node.lineno}: {name} is read in two types")
                    case _:
                        raise ValueError(f"line {node.lineno}: the variable's name is not written out")
    return found


def variables_listed(text: str) -> dict[str, str]:
    """Name → type of every row of the table that is marked as read by ``settings``."""
    return {
        cells[0].strip("`"): cells[1]
        for cells in rows(text)
        if "settings" in cells[3].replace(",", " ").split()
    }


def rows(text: str) -> list[list[str]]:
    """The cells of each row that begins with a variable's name."""
    lines = (line for line in text.splitlines() if line.startswith("| `"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_and_the_code_name_the_same_variables_and_types() -> None:
    assert variables_listed(TABLE.read_text()) == variables_read(SETTINGS.read_text())


def test_each_row_is_whole_and_stands_once() -> None:
    """Six cells, none empty; a second row of the same name could contradict the first."""
    table = rows(TABLE.read_text())
    assert [row[0] for row in table if len(row) != 6 or not all(row)] == []
    assert len({row[0] for row in table}) == len(table)


def test_every_read_is_seen_wherever_it_stands() -> None:
    source = 'a = env.str("A", "x")\nif a:\n    b = {"k": [env.bool("B", False)]}\n'
    assert variables_read(source) == {"A": "str", "B": "bool"}


@pytest.mark.parametrize(
    "source", ["env.str(NAME)", 'env.str(f"{x}_KEY")', 'env("A")', "env.str()", 'env.str("A"), env.int("A")']
)
def test_a_read_that_cannot_be_checked_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        variables_read(source)


def test_rows_for_other_readers_are_left_out() -> None:
    text = (
        "| name | type | default | read by | roles | meaning |\n|---|---|---|---|---|---|\n"
        "| `A` | str | x | settings, deploy | all | a |\n"
        "| `B` | text | x | deploy | all | b |\n"
    )
    assert variables_listed(text) == {"A": "str"}
