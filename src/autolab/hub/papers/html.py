"""Papers that arXiv and ar5iv show as web pages, turned into Markdown: headings, text, tables, and the TeX of formulas.

Both make their pages with LaTeXML, whose class names are what is gone by. Navigation, pictures and the bibliography
are left out. The text stays a stranger's: whoever shows it cleans and marks it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bs4 import Tag

PARSED_LIMIT = (
    5_000_000  # characters of a page without the insides of its formulas; parsing takes 3 s for each million
)
TEXT_LIMIT = 4_000_000
SHORTEST = 200  # characters; what is shorter is an excuse, and no paper

_GONE_TAGS = {"nav", "header", "footer", "script", "style", "button", "form", "svg", "img", "iframe", "object",
              "template", "noscript"}  # fmt: skip
_GONE = {"ltx_bibliography", "ltx_TOC", "ltx_page_navbar", "ltx_page_header", "ltx_page_footer", "package-alerts",
         "ltx_note_mark", "ltx_tag_note", "ltx_note_type", "ltx_ERROR", "ltx_listing_data"}  # fmt: skip
# Tables within formulas and scaled boxes are made of spans.
_RENAMED = {"ltx_tabular": "table", "ltx_thead": "thead", "ltx_tbody": "tbody", "ltx_tr": "tr", "ltx_td": "td",
            "ltx_title_abstract": "h2"}  # fmt: skip
_RUN_IN = {"ltx_title_theorem", "ltx_title_proof", "ltx_title_keywords"}


def to_markdown(page: str) -> str:
    """The paper in a page as Markdown of at most 4,000,000 characters; empty if there is none in it. Never raises."""
    import bs4
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    try:
        soup = BeautifulSoup(_with_tex(page)[:PARSED_LIMIT], "html.parser")
    except (bs4.exceptions.ParserRejectedMarkup, AssertionError, ValueError):
        return ""
    paper = soup.find(class_="ltx_document") or soup.find("article")
    if paper is None:
        return ""
    for node in paper.find_all(True):
        _tidy(node)
    converter = MarkdownConverter(
        heading_style="ATX", bullets="-", strip=["a"], table_infer_header=True,
        escape_asterisks=False, escape_underscores=False, escape_misc=False,
    )  # fmt: skip
    try:
        text = str(converter.convert_soup(paper))
    except RecursionError:  # tags within tags within tags: nothing that LaTeXML writes
        text = paper.get_text("\n")
    text = re.sub(r"[ \t]+\n", "\n", text.replace("\xa0", " "))
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return text[:TEXT_LIMIT] if len(text) >= SHORTEST else ""


def _with_tex(page: str) -> str:
    """The page with every formula replaced by its TeX, between dollar signs.

    Formulas are most of a page, and to parse them takes minutes. Looked for by hand, for it must take linear time
    whatever the page holds.
    """
    return "".join(_pieces(page))


def _pieces(page: str) -> Iterator[str]:
    done = 0
    while (start := page.find("<math", done)) >= 0 and (end := page.find("</math>", start)) >= 0:
        yield page[done:start]
        tex = _between(page, 'alttext="', '"', start, end)
        tex = tex or _between(page, 'encoding="application/x-tex">', "</annotation>", start, end)
        if tex:
            # TeX breaks long lines with a comment sign.
            tex = " ".join(re.sub(r"(?<!\\)%\n", "", tex).split())
            mark = "$$" if page.find('display="block"', start, end) >= 0 else "$"
            yield f"<span>{mark}{tex}{mark}</span>"
        else:
            yield page[start:end]
        done = end + len("</math>")
    yield page[done:]


def _between(page: str, opening: str, closing: str, start: int, end: int) -> str:
    at = page.find(opening, start, end)
    if at < 0:
        return ""
    at += len(opening)
    until = page.find(closing, at, end)
    return page[at:until].replace("<", "&lt;") if until >= 0 else ""


def _tidy(node: Tag) -> None:
    """Make of one element what Markdown has a form for, or remove it."""
    from bs4.element import NavigableString

    classes = set(node.get_attribute_list("class"))
    if node.name in _GONE_TAGS or classes & _GONE:
        node.extract()
    elif node.name == "table" and "ltx_eqn_table" in classes:
        rows = [" ".join(row.get_text(" ").split()) for row in node.find_all("tr")]
        _replace(node, "p", "\n".join(row for row in rows if row))
    elif "ltx_listing" in classes:
        for number in node.find_all(class_="ltx_tag_listingline"):
            number.extract()
        lines = [line.get_text().strip("\n") for line in node.find_all(class_="ltx_listingline")]
        _replace(node, "pre", "\n".join(lines or [node.get_text()]))
    elif "ltx_note_content" in classes:
        node.insert(0, NavigableString(" (note: "))
        node.append(NavigableString(")"))
    elif "ltx_tag_item" in classes and node.find_parent("li") is not None:
        node.extract()  # the list has its own
    elif classes & _RUN_IN:
        node.name = "strong"
    else:
        node.name = next((_RENAMED[name] for name in classes if name in _RENAMED), node.name)


def _replace(node: Tag, name: str, text: str) -> None:
    """Turn an element into another with nothing but text in it."""
    from bs4.element import NavigableString

    node.clear()
    node.name = name
    node.append(NavigableString(text))
