"""The blocks of docs/lake.md: what readers are told is what is run."""

import pathlib

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "lake.md"
# What the page calls the lake's place, and the table that its blocks open.
PLACE = "/srv/lake"
TABLE = "blocks"


def blocks(kind):
    """The texts of all blocks between fences whose first word is `kind`, each with the words after it."""
    found, lines = [], iter(PAGE.read_text().splitlines())
    for line in lines:
        words = line.removeprefix("```").split() if line.startswith("```") else []
        if not words:
            continue
        text = []
        for line in lines:
            if line == "```":
                break
            text.append(line)
        if words[0] == kind:
            found.append((words[1:], "\n".join(text)))
    return found


def of(kind, engine):
    """The blocks of one engine, in the order of the page."""
    return [text for engines, text in blocks(kind) if engine in engines]


def statements(text):
    return [statement.strip() for statement in text.split(";") if statement.strip()]


def questions():
    """The five questions, the same for all engines."""
    found = [text.rstrip(";") for text in of("sql", "lake")]
    assert len(found) == 5, f"{PAGE} has {len(found)} questions"
    return found


def opening(engine, lake, tables):
    """The statements with which an engine opens these tables: the page shows those for one of them."""
    shown = statements(of("sql", engine)[0])
    settings = [statement for statement in shown if PLACE not in statement]
    per_table = [statement for statement in shown if PLACE in statement]
    assert per_table, f"{PAGE} does not say how {engine} opens a table"
    for_all = [
        statement.replace(f"{PLACE}/{TABLE}", f"{lake}/{table}").replace(f"VIEW {TABLE} ", f"VIEW {table} ").replace(f"'{TABLE}'", f"'{table}'")
        for table in tables
        for statement in per_table
    ]
    return settings + for_all


def script(engine, lake):
    """A library's lines that open a lake, and the one that asks `question`."""
    opens, asks = of("python", engine)[0].replace(PLACE, str(lake)).rsplit("\n", 1)
    return opens, asks


def exact_sum(engine):
    """The form of a sum that cannot overflow."""
    return of("sql", engine)[-1].rstrip(";")
