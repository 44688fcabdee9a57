"""The pages of docs/ are true: their programs print what they show, every operator has one, the site builds."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from fedmpi.language.operators.table import OPERATORS
from tests import needs, pages, reference
from tests.mpijob import ROOT, command, run_command, run_job

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [path for path in DOCS if path.name not in pages.ELSEWHERE and list(pages.programs(path))]
NAMED = [name for name in OPERATORS if name.startswith(("federated_", "sequence_"))]
OPERATORS_PAGE = (ROOT / "docs" / "operators.md").read_text()


@pytest.mark.slow
@needs.mpi_jobs
@pytest.mark.parametrize("ranks", [1, 3])
def test_the_programs_print_what_the_pages_show(ranks):
    words = ["-W", "error", "-m", "tests.pages", *PAGES]
    done = run_job(ranks, words, timeout=300) if ranks > 1 else run_command(command(words), timeout=300)
    assert done.returncode == 0, done
    for path in PAGES:
        assert f"{path}: {len(list(pages.programs(path)))}\n" in done.stdout


def test_a_page_that_shows_something_else_is_found_and_can_be_written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint(1)  # 2\n\nprint(3)  # 3\n```\n\n"
        "```python\nif True:\n    print(4)\nraise ValueError('no')\n```\n\n```text\n4\nValueError: yes\n```\n"
    )
    first, second = pages.programs(page)
    assert (first.shown, first.where, second.shown) == ("2\n3\n", "page.md, line 1", "4\nValueError: yes\n")
    with pytest.raises(AssertionError, match=r"page\.md, line 1"):
        pages.check(page)
    pages.write(page)
    assert page.read_text().replace("# 1", "# 2").replace(": no\n", ": yes\n").count("yes") == 1
    assert pages.check(page) == 2
    page.write_text("```python\nprint(1)\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md, line 1"):
        pages.check(page)


@pytest.mark.parametrize("name", NAMED)
def test_every_operator_has_a_section_with_its_row_and_an_example(name):
    assert len(re.findall(rf"^### {name}\n\n<!-- operator {name} -->\n", OPERATORS_PAGE, re.MULTILINE)) == 1
    assert any(f"fm.{name}(" in program.code for program in pages.programs(ROOT / "docs" / "operators.md"))


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="no sphinx: install fedmpi[docs]")
    words = [sys.executable, "-m", "sphinx", "-qW", "--keep-going", "-d", tmp_path / "trees", ROOT / "docs", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    site = (tmp_path / "operators.html").read_text()
    assert all(f"fm.{name}(" in site for name in NAMED)
    assert 'href="operators.html"' in (tmp_path / "index.html").read_text()
    assert "<h2>" in (tmp_path / "changelog.html").read_text()


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_shows_what_the_code_says(page):
    """If this fails: python -m tests.pages --write docs/PAGE.md, and read what has changed."""
    assert page.read_text() == reference.expanded(page)
    assert not re.search(r"\{py:|^:::|^```\{", page.read_text(), re.MULTILINE)  # what only the site could read


def test_the_pictures_are_those_of_the_notebooks():
    found = {path: path.read_bytes() for path in (ROOT / "docs").glob("*.png")}
    assert found == reference.pictures()


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_between_the_files_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def anchors(page):
    """Return the anchors of a page's headings, as forges and the site make them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL), re.M
    )
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", [*DOCS, ROOT / "README.md"], ids=lambda path: path.name)
def test_files_that_a_page_names_are_there(page):
    """Whole names below the package, such as runtime/executor.py; a short one stands beside a whole one."""
    for name in re.findall(r"`(?:fedmpi/)?((?:language|local|runtime|tests)/[\w/]+(?:\.py|/)?)`", page.read_text()):
        assert (ROOT / "fedmpi" / name).exists() or (ROOT / name).exists(), f"{page.name} names {name}"


def test_the_words_are_few_and_stand_where_the_glossary_says():
    rows = re.findall(r"^\| (\*\*.*?) \| .* \| (.*) \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert 30 <= len(rows) <= 40
    assert rows == sorted(rows, key=lambda row: row[0].lower())
    for _, places in rows:
        for place in re.findall(r"`([\w/.]+)`", places):
            assert (ROOT / "fedmpi" / place).exists(), place


def test_stale_text_is_renewed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n\n<!-- operator federated_sum -->\n\nold\n\n<!-- end -->\n\nafter\n\n<!-- arithmetic -->\n"
    )
    made = reference.expanded(page)
    assert made.startswith("before\n\n<!-- operator federated_sum -->\n\n**`fm.federated_sum(value)`**\n\nAdd the")
    assert "old" not in made
    assert made.endswith(" |\n\n<!-- end -->\n")
    page.write_text(made)
    assert reference.expanded(page) == made
